"""What the two clients share: how they are configured."""

from __future__ import annotations

import grpc

from atelier_client import environment
from atelier_client.channel import Connection
from atelier_client.reconnect import ReconnectPolicy


class BaseClient:
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
            credentials: for TLS; none means plain text.
            token: sent with every call, as the metadata `authorization: Bearer TOKEN`.
            reconnect_timeout_seconds: how long a stream that broke is opened again.
            call_timeout_seconds: deadline of the calls that do no work.
        """
        self._policy = ReconnectPolicy(timeout_seconds=reconnect_timeout_seconds)
        self._connection = Connection(
            address=server or environment.server_address(),
            credentials=credentials,
            token=token,
            call_timeout_seconds=call_timeout_seconds,
        )
        self._open_channel()

    def _open_channel(self) -> None:
        """Make the channel; it connects on first use."""
        raise NotImplementedError
