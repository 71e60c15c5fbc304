"""The configuration that both clients share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import grpc

from atelier_client import environment
from atelier_client.channel import Connection
from atelier_client.reconnect import ReconnectPolicy


class BaseClient(ABC):
    """A connection to one server."""

    def __init__(
        self,
        server: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
        reconnect_timeout_seconds: float = 30.0,
        call_timeout_seconds: float = 30.0,
    ) -> None:
        """Connect on first use.

        Args:
            server: HOST:PORT; `ATELIER_SERVER` or localhost:50051 when empty.
            credentials: for TLS; plain text when None.
            token: sent with every call, as the metadata `authorization: Bearer TOKEN`.
            reconnect_timeout_seconds: how long to reconnect a broken stream or transfer, from the
                first failure after the server last answered.
            call_timeout_seconds: deadline of short calls (all but generate, streams and transfers).
        """
        self._policy = ReconnectPolicy(timeout_seconds=reconnect_timeout_seconds)
        self._connection = Connection(
            address=server or environment.read_server_address(),
            credentials=credentials,
            token=token,
            call_timeout_seconds=call_timeout_seconds,
        )
        self._open_channel()

    @abstractmethod
    def _open_channel(self) -> None:
        """Create the channel; it connects on first use."""
