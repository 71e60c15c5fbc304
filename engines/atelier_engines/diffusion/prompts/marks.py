"""Marks the names of textual inversions in a prompt, before anything else is read in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from atelier_engines.diffusion.embeddings.reading import TextualInversion
from atelier_engines.prompt_names import find_names

_FIRST_MARK = 0xF0000  # of the characters that Unicode gives no meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedPrompt:
    """A prompt in which single characters stand for textual inversions, so that no syntax takes their names apart."""

    text: str
    """The prompt with the marks."""
    marks: Mapping[str, TextualInversion]
    """What the characters stand for; only those that the text has."""

    def vectors(self, encoder: int) -> Mapping[str, torch.Tensor]:
        """The vectors of each mark for that text encoder, (vectors, width)."""
        return {mark: inversion.vectors[encoder] for mark, inversion in self.marks.items()}


def mark_names(text: str, inversions: Sequence[TextualInversion]) -> MarkedPrompt:
    """The prompt with a mark for each name in it; see `find_names`."""
    known = {inversion.name: inversion for inversion in inversions}
    marks: dict[str, str] = {}
    parts: list[str] = []
    end = 0
    for place in find_names(text, known):
        mark = marks.setdefault(place.name, _unused_character(text, len(marks)))
        parts += [text[end : place.start], mark]
        end = place.end
    return MarkedPrompt(
        text="".join([*parts, text[end:]]),
        marks={mark: known[name] for name, mark in marks.items()},
    )


def _unused_character(text: str, index: int) -> str:
    free = (
        mark for code in range(_FIRST_MARK, _FIRST_MARK + 0xFFFF) if (mark := chr(code)) not in text
    )
    for _ in range(index):
        next(free)
    return next(free)
