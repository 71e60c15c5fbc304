"""Reads ``concepts.toml``: what the model can draw and by which names it is known."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

_FILE = Path(__file__).with_name("concepts.toml")
DRAWN = ("core", "wider")
"""Tables of what the model draws."""
TABLES = (*DRAWN, "more")
"""All tables of the file."""


class _Entry(TypedDict, total=False):
    icon: str
    also: list[str]
    colour: str
    paint: list[str]
    hold: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """One thing that the model can draw."""

    name: str
    icon: str
    """Name of its drawing in the icon packages; ``*ball`` is drawn by the recipe."""
    also: tuple[str, ...]
    colour: str | None
    """Natural colour, where one word says it."""
    paint: tuple[str, ...]
    """Fills that take the asked colour, the main one first; empty when it has only its own."""
    hold: str | None
    """Colour kept out of training."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the usual one first."""
        return (self.name, *self.also)


def load(*tables: str) -> list[Concept]:
    """The concepts of these tables ("core", "wider", "more") in the file's order.

    Raises:
        KeyError: a table is not in the file.
    """
    document = cast("dict[str, dict[str, _Entry]]", tomllib.loads(_FILE.read_text("utf-8")))
    return [_concept(name, entry) for table in tables for name, entry in document[table].items()]


def _concept(name: str, entry: _Entry) -> Concept:
    return Concept(
        name=name,
        icon=entry.get("icon", name.replace(" ", "-")),
        also=tuple(entry.get("also", ())),
        colour=entry.get("colour"),
        paint=tuple(entry.get("paint", ())),
        hold=entry.get("hold"),
    )
