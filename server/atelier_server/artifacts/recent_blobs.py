"""Remembers the bytes of the newest outputs, since whoever waited for them asks at once."""

from __future__ import annotations

from collections import OrderedDict

_CAPACITY_BYTES = 32 * 2**20


class RecentBlobs:
    """Bytes by artifact id, the oldest forgotten first. The files stay the truth."""

    def __init__(self, capacity_bytes: int = _CAPACITY_BYTES) -> None:
        """Hold at most so many bytes."""
        self._capacity = capacity_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def add(self, artifact_id: str, data: bytes) -> None:
        """Remember the bytes, unless they are more than a quarter of the capacity."""
        if len(data) > self._capacity // 4:
            return
        self._held[artifact_id] = data
        self._size += len(data)
        while self._size > self._capacity:
            _, oldest = self._held.popitem(last=False)
            self._size -= len(oldest)

    def get(self, artifact_id: str) -> bytes | None:
        """The bytes, if they are still remembered."""
        return self._held.get(artifact_id)

    def drop(self, artifact_id: str) -> None:
        """Forget the bytes."""
        self._size -= len(self._held.pop(artifact_id, b""))
