"""The memory that requests may take while they arrive and are taken apart, shared by all callers.

gRPC tells the size of a message only when it has arrived whole. So a request counts as the largest there may be while
it is being read, and as what it is from then on. A request over HTTP counts as the length that its head tells. Of what
the server does not read yet, gRPC holds no more than the window of the stream.
"""

from __future__ import annotations

from enum import IntEnum

from atelier_server.errors import RequestMemoryError
from atelier_server.shared_memory import Held, SharedMemory

_TENANT_PART = 0.5


class Kind(IntEnum):
    """What a request is; a higher kind finds room that lower ones cannot take."""

    UPLOAD = 0
    """A part of an upload, which may be long in coming."""
    TASK = 1
    """A request that may have attachments."""
    SHORT = 2
    """A request that asks or controls."""


_PARTS = {Kind.UPLOAD: 0.5, Kind.TASK: 0.75, Kind.SHORT: 1.0}
"""By kind, the part of the memory that it and the kinds below it may take together."""


class RequestMemory:
    """Gives out memory for requests, to each tenant at most half of it; tenants and kinds take turns."""

    def __init__(self, max_bytes: int, message_bytes: int, *, wait_seconds: float = 10) -> None:
        """Give out `max_bytes` at a time, for requests of at most `message_bytes` each, which wait so long for it."""
        self.message_bytes = message_bytes
        """What a request takes until its size is known."""
        self._memory = SharedMemory(
            max_bytes,
            parts=[_PARTS[kind] for kind in Kind],
            wait_seconds=wait_seconds,
            refuse=RequestMemoryError,
        )

    @property
    def is_short(self) -> bool:
        """Whether requests wait."""
        return self._memory.is_short

    def hold(self, tenant: str, kind: Kind) -> Held:
        """What one request at a time of this tenant holds; nothing yet."""
        return Held(self._memory, {tenant: _TENANT_PART}, kind)
