"""Keeps what tasks made in memory, within a number of bytes; what is longest unused goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from atelier_engines.event import Output
from atelier_engines.media import Encoded, Media, Pixels, Samples

_OVERHEAD_BYTES = 1024
"""What an output takes beside its pixels or samples, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    outputs: tuple[Output, ...]
    size: int


@dataclass(slots=True)
class OutputCache:
    """Outputs of whole tasks, by the digest of the task."""

    max_bytes: int
    """It never holds more."""
    held_bytes: int = field(default=0, init=False)
    """It holds so much now."""
    _entries: OrderedDict[bytes, _Entry] = field(default_factory=OrderedDict, init=False)

    def get(self, key: bytes) -> tuple[Output, ...] | None:
        """What was put under the key, if it is still there; it counts as used now."""
        kept = self._entries.get(key)
        if kept is None:
            return None
        self._entries.move_to_end(key)
        return kept.outputs

    def put(self, key: bytes, outputs: Sequence[Output]) -> None:
        """Keep outputs, and let go of others until they fit; without effect if they cannot.

        Arrays must be their own, see `owned`, or they would hold more than they count.
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
        """Let go of everything."""
        self._entries.clear()
        self.held_bytes = 0

    def _drop(self, key: bytes) -> None:
        kept = self._entries.pop(key, None)
        if kept is not None:
            self.held_bytes -= kept.size


def size_of(outputs: Sequence[Output]) -> int:
    """Bytes that keeping them takes."""
    return sum(_OVERHEAD_BYTES + _bytes_of(output.media) for output in outputs)


def copy_views(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """The same, with copies of arrays that are views of larger ones, such as of a whole batch."""
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
