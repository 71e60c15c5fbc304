"""The clips that are kept, and those among them that a prompt may get."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from atelier_engines.event import Note
from atelier_engines.media import Samples
from atelier_engines.reuse import wording
from atelier_engines.reuse.wording import Wording

_OVERHEAD_BYTES = 4096
"""Upper bound of the memory that a clip takes beside its samples."""

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """A clip that was made, and of what."""

    group: bytes
    """Equal for tasks that differ in prompt and seed alone, of one tenant."""
    prompt: str
    """As it was asked for."""
    embedding: Vector | None
    """Of the prompt, of length 1; None where it is not compared."""
    seed: int
    """The seed it was made with."""
    media: Samples
    """The clip; not a view of a larger array."""
    spectrum: Vector
    """Of the clip, of length 1, see `spectra`."""
    score: float | None = None
    """How well it matches its prompt; None where nothing scored it."""
    notes: tuple[Note, ...] = ()
    """What the engine told of it."""

    @property
    def wording(self) -> Wording:
        """What the prompt says word by word."""
        return wording.read(self.prompt)

    @property
    def size(self) -> int:
        """Memory that it takes, in bytes."""
        return self.media.array.nbytes + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A clip that a prompt may get."""

    variant: Variant
    """The clip."""
    similarity: float
    """Cosine similarity of both prompts; 1 for the same prompt."""


Choose = Callable[[Sequence[Variant]], int]
"""Which of the clips of one prompt, in the order in which they were made, goes."""


@dataclass(slots=True, kw_only=True)
class VariantStore:
    """The kept clips, bounded in bytes and per prompt."""

    max_bytes: int
    """Maximum size in bytes; what was used longest ago is dropped first."""
    max_per_prompt: int
    """Most clips of one prompt."""
    choose: Choose
    """Chooses which of them goes."""
    held_bytes: int = field(default=0, init=False)
    """Current size in bytes."""
    _kept: OrderedDict[int, Variant] = field(default_factory=OrderedDict, init=False)
    """By number, the one that was used last at the end."""
    _groups: dict[bytes, dict[int, Variant]] = field(default_factory=dict, init=False)
    """The same by group, in the order in which they were made."""
    _numbers: count[int] = field(default_factory=count, init=False)

    def find(
        self, group: bytes, prompt: str, embedding: Vector | None, *, threshold: float, most: int
    ) -> list[Match]:
        """The clips of the group whose prompt is the same or similar enough, the most similar first, up to `most`."""
        asked = wording.read(prompt)
        found: list[tuple[float, int, Variant]] = []
        for number, variant in self._groups.get(group, {}).items():
            similarity = _compare(asked, embedding, variant)
            if similarity >= threshold:
                found.append((similarity, number, variant))
        found.sort(key=lambda one: (-one[0], one[1]))
        return [
            Match(variant=variant, similarity=similarity) for similarity, _, variant in found[:most]
        ]

    def add(self, variant: Variant) -> None:
        """Keep a clip, and drop others until it fits; has no effect if it is too large."""
        if variant.size > self.max_bytes:
            return
        number = next(self._numbers)
        self._kept[number] = variant
        self._groups.setdefault(variant.group, {})[number] = variant
        self.held_bytes += variant.size
        same = self._same_prompt(variant)
        if len(same) > self.max_per_prompt:
            self._drop(same[self.choose([self._kept[one] for one in same])])
        while self.held_bytes > self.max_bytes:
            self._drop(next(iter(self._kept)))

    def use(self, variant: Variant) -> None:
        """Note that a clip was returned."""
        for number, kept in self._groups.get(variant.group, {}).items():
            if kept is variant:
                self._kept.move_to_end(number)

    def clear(self) -> None:
        """Drop all clips."""
        self._kept.clear()
        self._groups.clear()
        self.held_bytes = 0

    def _same_prompt(self, variant: Variant) -> list[int]:
        group = self._groups[variant.group]
        return [
            number for number, kept in group.items() if kept.wording.text == variant.wording.text
        ]

    def _drop(self, number: int) -> None:
        dropped = self._kept.pop(number)
        group = self._groups[dropped.group]
        del group[number]
        if not group:
            del self._groups[dropped.group]
        self.held_bytes -= dropped.size


def _compare(asked: Wording, embedding: Vector | None, variant: Variant) -> float:
    """The similarity of the prompts; 0 where it does not count."""
    if asked.text == variant.wording.text:
        return 1.0
    if embedding is None or variant.embedding is None:
        return 0.0
    if not wording.may_be_similar(asked, variant.wording):
        return 0.0
    return min(1.0, float(embedding @ variant.embedding))
