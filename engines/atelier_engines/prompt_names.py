"""Finds the names of embeddings in prompts; the same for the engine and for whatever decides a task."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

_START = re.compile(r"(?P<word>(?<![\w-]).)|<", re.DOTALL)
"""Where a name may begin: with a word, or with a bracket that follows one."""
_WORD = re.compile(r"[\w-]")
_SUFFIX = re.compile(r"\.(?:safetensors|pt|bin)(?![\w-])")
_MARK = "embedding:"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePlace:
    """Where a prompt has the name of an embedding."""

    name: str
    """The name."""
    start: int
    """Index of the first character of what stands for the embedding."""
    end: int
    """Index behind its last character."""


def find_names(text: str, names: Collection[str]) -> tuple[NamePlace, ...]:
    """The places of these names in a prompt, from left to right.

    A name is found as a word of its own, in the same case, and the longest one where several begin, so it depends on
    all names together which of them a prompt has. It may be written as `embedding:NAME`, with the suffix of a file
    too, and as `<NAME>`. Thousands of names take hardly longer than one.

    Source: AUTOMATIC1111's stable-diffusion-webui (the bare name), ComfyUI (`embedding:NAME`), InvokeAI and diffusers
    (`<NAME>`).
    """
    return tuple(_Finder(text, names).find()) if names and text else ()


def list_names(names: Collection[str], texts: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that any of the texts has, in the order of the names; see `find_names`."""
    found = {place.name for text in texts for place in find_names(text, names)}
    return tuple(name for name in dict.fromkeys(names) if name in found)


class _Finder:
    """Finds names in one text."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self._text = text
        self._names = frozenset(names)
        self._lengths = _group_lengths(self._names)

    def find(self) -> Iterator[NamePlace]:
        """The places from left to right, none of which overlap."""
        index = 0
        while (start := _START.search(self._text, index)) is not None:
            place = self._find_at(start.start(), is_word=start["word"] is not None)
            index = start.start() + 1 if place is None else place.end
            if place is not None:
                yield place

    def _find_at(self, start: int, *, is_word: bool) -> NamePlace | None:
        """The name that begins there, if any; those without brackets only where a word begins."""
        found = self._find_angled(start)
        if found is None and is_word:
            found = self._find_marked(start) or self._find_bare(start)
        return found

    def _find_angled(self, start: int) -> NamePlace | None:
        if self._text[start] == "<":
            for end in self._ends(start + 1):
                if self._text.startswith(">", end):
                    return self._place(start, start + 1, end, end + 1)
        return None

    def _find_marked(self, start: int) -> NamePlace | None:
        if self._text.startswith(_MARK, start):
            first = start + len(_MARK)
            for end in self._ends(first):
                suffix = _SUFFIX.match(self._text, end)
                if suffix is not None:
                    return self._place(start, first, end, suffix.end())
                if _WORD.match(self._text, end) is None:
                    return self._place(start, first, end, end)
        return None

    def _find_bare(self, start: int) -> NamePlace | None:
        for end in self._ends(start):
            if _WORD.match(self._text, end) is None:
                return self._place(start, start, end, end)
        return None

    def _ends(self, first: int) -> Iterator[int]:
        """Where the names end that begin there, the longest first."""
        for length in self._lengths.get(self._text[first : first + 1], ()):
            name = self._text[first : first + length]
            if len(name) == length and name in self._names:
                yield first + length

    def _place(self, start: int, first: int, last: int, end: int) -> NamePlace:
        return NamePlace(name=self._text[first:last], start=start, end=end)


def _group_lengths(names: Collection[str]) -> Mapping[str, Sequence[int]]:
    """The lengths of the names by their first character, the longest first."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for name in names:
        found[name[:1]].add(len(name))
    return {first: sorted(lengths, reverse=True) for first, lengths in found.items()}
