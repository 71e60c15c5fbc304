"""A cache of outputs in memory, bounded in bytes; the least recently used entry is dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from atelier_engines.event import Output
from atelier_engines.media import Encoded, Media, Pixels, Samples

_OVERHEAD_BYTES = 1024
"""Upper bound of the memory that an output takes beside its pixels or samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    outputs: tuple[Output, ...]
    size: int


@dataclass(slots=True)
class OutputCache:
    """The outputs of whole tasks, by task digest."""

    max_bytes: int
    """Maximum size in bytes."""
    held_bytes: int = field(default=0, init=False)
    """Current size in bytes."""
    _entries: OrderedDict[bytes, _Entry] = field(default_factory=OrderedDict, init=False)

    def get(self, key: bytes) -> tuple[Output, ...] | None:
        """The outputs of that key, if they are still cached; marks them as used."""
        kept = self._entries.get(key)
        if kept is None:
            return None
        self._entries.move_to_end(key)
        return kept.outputs

    def put(self, key: bytes, outputs: Sequence[Output]) -> None:
        """Cache outputs, and drop others until they fit; has no effect if they are too large.

        Arrays must not be views, see `copy_views`, or they would keep more memory than is counted.
        """
        size = size_of(outputs)
        if size > self.max_bytes:
            return
        self._drop(key)
        self._entries[key] = _Entry(outputs=tuple(outputs), size=size)
        self.held_bytes += size
        while self.held_bytes > self.max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self.held_bytes = 0

    def _drop(self, key: bytes) -> None:
        kept = self._entries.pop(key, None)
        if kept is not None:
            self.held_bytes -= kept.size


def size_of(outputs: Sequence[Output]) -> int:
    """Memory that the outputs take, in bytes."""
    return sum(_OVERHEAD_BYTES + _bytes_of(output.media) for output in outputs)


def copy_views(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """Copy arrays that are views of larger ones, such as of a whole batch."""
    return tuple(replace(output, media=_copy_view(output.media)) for output in outputs)


def _bytes_of(media: Media) -> int:
    match media:
        case Pixels(array=array):
            return array.nbytes
        case Samples(array=array):
            return array.nbytes
        case Encoded(data=data):
            return len(data)
        case _:
            assert_never(media)


def _copy_view(media: Media) -> Media:
    match media:
        case Pixels() if media.array.base is not None:
            return Pixels(array=media.array.copy())
        case Samples() if media.array.base is not None:
            return replace(media, array=media.array.copy())
        case Pixels() | Samples() | Encoded():
            return media
        case _:
            assert_never(media)
