"""Suggests the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, known: Iterable[str]) -> str:
    """A question that names the most similar of the known names, such as `; did you mean 'tiny'?`; empty if none is."""
    folded = {one.casefold(): one for one in known}
    similar = get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[similar[0]]!r}?" if similar else ""
