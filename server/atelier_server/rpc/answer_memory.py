"""The memory that answers may take from when they are made until their callers have taken them.

gRPC holds an answer that it was given until the windows of the stream and of the connection let it go, which the other
side opens as it likes: whoever reads nothing makes the server hold all that it has asked for.
"""

from __future__ import annotations

from atelier_server.errors import AnswerMemoryError
from atelier_server.shared_memory import Held, SharedMemory

_TENANT_PART = 0.5
_CONNECTION_PART = 0.25
_WAIT_SECONDS = 20.0
SMALL_BYTES = 16 * 2**10
"""An answer up to this is not counted: the call itself takes as much."""
COPIES = 2
"""An answer that is sent is there twice, for Python and for gRPC."""
STREAM_COPIES = 4
"""A message of a stream is also there as a message, and the next one is being made."""


class AnswerMemory:
    """Gives out memory for answers: to each tenant at most half of it, to each connection at most a quarter."""

    def __init__(self, max_bytes: int, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        """Give out `max_bytes` at a time, to those who wait so long for it."""
        self._memory = SharedMemory(max_bytes, wait_seconds=wait_seconds, refuse=AnswerMemoryError)

    def hold(self, tenant: str, peer: str) -> Held:
        """What one answer holds, to this tenant, over the connection with this address; nothing yet.

        Peers on a Unix socket have no addresses: they share what their tenant may have.
        """
        owners = {f"tenant:{tenant}": _TENANT_PART}
        if not peer.startswith("unix:"):
            owners[f"connection:{peer}"] = _CONNECTION_PART
        return Held(self._memory, owners)
