"""Words of foreign exceptions, short enough for a message of ours."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """What an exception says, without the listing that may follow, or else what it is called."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
