"""Parses weights in prompts: `(word)`, `[word]`, `(word:1.3)`, and `BREAK`.

Source: AUTOMATIC1111's stable-diffusion-webui:
https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis. As there, a
bracket that is never closed extends to the end, one that closes nothing is an ordinary character,
and brackets of the two kinds may overlap. Unlike there, a backslash is an ordinary character unless a
bracket follows, `BREAK` works inside brackets, and a number that is not a valid weight stays in the
text. Prompts that change during the steps (`[from:to:0.5]`, `[one|other]`) are parsed as plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

MAX_WEIGHT = 5.0
"""Maximum weight, of nested brackets too. Above 2, most models produce broken images."""

_STEP = 1.1
"""Factor of a pair of brackets without a number."""

_TOKENS = re.compile(
    r"""
    \\(?P<escaped>[()\[\]])
    | (?P<opening>[(\[])
    | :\s*(?P<weight>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*\)
    | (?P<closing>[)\]])
    | (?P<section>\bBREAK\b)
    | (?P<text>[^\\()\[\]:B]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSpan:
    """A part of a prompt with one weight."""

    text: str
    """The text, without the brackets that set its weight."""
    weight: float = 1.0
    """Weight, 0 to MAX_WEIGHT."""


Sections = tuple[tuple[WeightedSpan, ...], ...]
"""The parts between `BREAK`s: at least one, and empty only if it is the only one."""


def parse_plain(prompt: str) -> Sections:
    """Parse a prompt as plain text, brackets included."""
    return ((WeightedSpan(text=prompt),),)


def parse_weighted(prompt: str) -> Sections:
    """Parse the weights of a prompt. Every text is valid; one without brackets is not changed."""
    reading = _Parser()
    for found in _TOKENS.finditer(prompt):
        reading.take(found)
    return reading.end()


class _Parser:
    """The state of parsing one prompt."""

    def __init__(self) -> None:
        self._sections: list[list[WeightedSpan]] = [[]]
        self._round: list[_Position] = []
        self._square: list[_Position] = []

    def take(self, found: re.Match[str]) -> None:
        """Process one match of _TOKENS."""
        sign = found[0]
        match found.lastgroup:
            case "opening":
                self._open(self._round if sign == "(" else self._square)
            case "weight" if self._round and float(found["weight"]) <= MAX_WEIGHT:
                self._multiply(self._round.pop(), float(found["weight"]))
            case "weight":
                self._write(sign[:-1])
                self._close(")")
            case "closing":
                self._close(sign)
            case "section":
                self._sections.append([])
            case "escaped":
                self._write(found["escaped"])
            case _:
                self._write(sign)

    def end(self) -> Sections:
        """Close open brackets and return the sections."""
        while self._round:
            self._close(")")
        while self._square:
            self._close("]")
        written = [section for section in self._sections if any(map(_is_written, section))]
        return tuple(map(_merge, written or self._sections[:1]))

    def _open(self, brackets: list[_Position]) -> None:
        brackets.append((len(self._sections) - 1, len(self._sections[-1])))

    def _close(self, sign: str) -> None:
        brackets, factor = (self._round, _STEP) if sign == ")" else (self._square, 1 / _STEP)
        if brackets:
            self._multiply(brackets.pop(), factor)
        else:
            self._write(sign)

    def _write(self, text: str) -> None:
        self._sections[-1].append(WeightedSpan(text=text))

    def _multiply(self, start: _Position, factor: float) -> None:
        """Multiply the weights of everything since `start`."""
        first, offset = start
        for section in self._sections[first:]:
            section[offset:] = [
                replace(span, weight=min(span.weight * factor, MAX_WEIGHT))
                for span in section[offset:]
            ]
            offset = 0


_Position = tuple[int, int]
"""Index of a section, and of a span in it."""


def _is_written(span: WeightedSpan) -> bool:
    return not span.text.isspace()


def _merge(spans: list[WeightedSpan]) -> tuple[WeightedSpan, ...]:
    """Join neighbouring spans of one weight, so that an escape never splits a word."""
    groups = groupby(spans, key=attrgetter("weight"))
    return tuple(
        WeightedSpan(text="".join(span.text for span in group), weight=weight)
        for weight, group in groups
    )
