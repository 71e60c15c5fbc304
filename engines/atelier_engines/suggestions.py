"""Suggests the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def find_similar(name: str, known: Iterable[str]) -> str:
    """The most similar of the known names, whatever its case; empty if none is similar."""
    folded = {one.casefold(): one for one in known}
    similar = get_close_matches(name.casefold(), folded, n=1)
    return folded[similar[0]] if similar else ""


def suggest(name: str, known: Iterable[str]) -> str:
    """A question that names the most similar name, such as `; did you mean 'tiny'?`; empty if none is similar."""
    similar = find_similar(name, known)
    return f"; did you mean {similar!r}?" if similar else ""
