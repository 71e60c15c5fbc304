"""Draws names: sortable by time, impossible to guess."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_LENGTH = 26
_RANDOM_BITS = 80
_STEP_BITS = (
    64  # ids of the same millisecond are so far apart that none can be guessed from another
)


class _Ids:
    """Draws ids, each greater than the one before, also within one millisecond."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def draw(self) -> int:
        drawn = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        with self._lock:
            self._last = max(drawn, self._last + 1 + secrets.randbits(_STEP_BITS))
            return self._last


_ids = _Ids()


def new_id() -> str:
    """26 lower-case characters: 48 bits of Unix milliseconds, then 80 random bits, so ids sort by age.

    Source: the ULID specification (layout, alphabet, order within a millisecond), written in lower case.
    """
    value = _ids.draw()
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def random_seed(generation_id: str) -> int:
    """The seed drawn for a generation that names none: 0 to 2**32 - 1, short enough to be typed again.

    It follows from the id, so that every attempt, on whichever engine, draws the same.
    """
    return int.from_bytes(hashlib.sha256(generation_id.encode()).digest()[:4])
