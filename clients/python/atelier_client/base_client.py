"""The configuration that both clients share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import grpc

from atelier_client import environment
from atelier_client.actions import Operation
from atelier_client.addresses import parse_address
from atelier_client.batches import StartedBatch
from atelier_client.channel import Connection
from atelier_client.errors import AtelierError, ClientClosedError, InvalidRequestError
from atelier_client.input_media import InputMedia
from atelier_client.operations import StartedStream
from atelier_client.reconnect import ReconnectPolicy
from atelier_client.requests import build_batch, build_request
from atelier_client.results import Generation
from atelier_client.status import error_from_rpc
from atelier_client.tasks import Batch, Keywords, Task
from atelier_client.tls import Tls


class Started(Protocol):
    """What `generate` runs: one task, or several."""

    def result(self) -> Operation[Generation | tuple[Generation, ...]]:
        """Run it to its end."""

    def leave(self) -> Operation[None]:
        """Cancel what has not ended."""


class BaseClient(ABC):
    """A connection to one server."""

    def __init__(
        self,
        server: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        reconnect_timeout_seconds: float = 30.0,
        call_timeout_seconds: float = 30.0,
    ) -> None:
        """Connect on first use.

        Args:
            server: HOST:PORT or an http URL, an https URL for TLS; `ATELIER_SERVER` or localhost:50051
                when empty.
            credentials: for TLS, as gRPC has them, instead of the files of `tls`.
            tls: certificates; when None, TLS with the authorities of the system for an https URL, else plain text.
            token: sent with every call, as the metadata `authorization: Bearer TOKEN`; `ATELIER_TOKEN` when None, no
                token when empty.
            reconnect_timeout_seconds: how long to reconnect a broken stream or transfer, from the
                first failure after the server last answered.
            call_timeout_seconds: deadline of short calls (all but generate, streams and transfers).
        """
        self._policy = ReconnectPolicy(timeout_seconds=reconnect_timeout_seconds)
        server = server or environment.read_server_address()
        address = parse_address(server)
        if tls is not None and server.strip().lower().startswith("http://"):
            raise InvalidRequestError(
                "an http URL is plain text: use https://HOST:PORT with certificates"
            )
        if credentials is None and (tls is not None or address.is_secure):
            credentials = (tls or Tls()).load()
        self._endpoint = address.endpoint
        self._connection = Connection(
            address=address.target,
            credentials=credentials,
            token=environment.read_token() if token is None else token,
            call_timeout_seconds=call_timeout_seconds,
            server_name="" if tls is None else tls.server_name,
        )
        self._closed = False
        self._open_channel()

    @abstractmethod
    def _open_channel(self) -> None:
        """Create the channel, which connects on first use, or leave that to the first call."""

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()

    def _translate(self, error: BaseException) -> AtelierError:
        """The error of an action that failed, in terms of this package."""
        if self._closed:
            closed = _closed_error()
            closed.__cause__ = error
            return closed
        if isinstance(error, grpc.RpcError):
            is_secure = self._connection.credentials is not None
            return error_from_rpc(error, is_secure=is_secure, endpoint=self._endpoint)
        raise error

    def _new_media(self) -> InputMedia:
        return InputMedia(self._policy)

    def _start_stream(self, task: Task, keywords: Keywords) -> StartedStream:
        """A task that nothing was sent of yet."""
        return StartedStream(
            request=build_request(task, keywords), policy=self._policy, media=self._new_media()
        )

    def _start(self, task: Task | Batch, keywords: Keywords) -> Started:
        """One task or several, that nothing was sent of yet."""
        if isinstance(task, str) or not isinstance(task, Sequence):
            return self._start_stream(task, keywords)
        return StartedBatch(
            requests=build_batch(task, keywords), policy=self._policy, media=self._new_media()
        )


def _closed_error() -> ClientClosedError:
    return ClientClosedError("the client was closed: make a new one")
