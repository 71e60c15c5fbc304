"""Generates ids that sort by time and cannot be guessed."""

from __future__ import annotations

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_SHIFTS = range(125, -1, -5)  # of the 26 characters
_RANDOM_BITS = 80
_RANDOM_BYTES = 1024
_STEP_BITS = 64  # distance of ids of the same millisecond, so that none can be guessed from another


class _Ids:
    """Generates ids, each greater than the one before, also within one millisecond."""

    def __init__(self) -> None:
        self._last = 0
        self._random = (
            b""  # drawn for many ids at once: a call of the system gives up Python's lock
        )
        self._lock = threading.Lock()

    def draw(self) -> int:
        with self._lock:
            drawn = (time.time_ns() // 1_000_000) << _RANDOM_BITS | self._draw_bits(_RANDOM_BITS)
            self._last = max(drawn, self._last + 1 + self._draw_bits(_STEP_BITS))
            return self._last

    def _draw_bits(self, count: int) -> int:
        """So many random bits, a multiple of 8; each is used once."""
        size = count // 8
        if len(self._random) < size:
            self._random = secrets.token_bytes(_RANDOM_BYTES)
        drawn, self._random = self._random[:size], self._random[size:]
        return int.from_bytes(drawn)

    def continue_after(self, value: int) -> None:
        with self._lock:
            self._last = max(self._last, value)


_ids = _Ids()


def new_id() -> str:
    """26 lower-case characters: 48 bits of Unix milliseconds, then 80 random bits, so ids sort by age.

    Source: the ULID specification (layout, alphabet, order within a millisecond), written in lower case.
    """
    value = _ids.draw()
    return "".join([_ALPHABET[value >> shift & 31] for shift in _SHIFTS])


def continue_after(known_id: str) -> None:
    """Have every id from now on be greater than one of an earlier process, even if the clock was set back since.

    Does nothing for an empty string.

    Raises:
        ValueError: it contains a character that no id has.
    """
    value = 0
    for character in known_id:
        value = value << 5 | _ALPHABET.index(character)
    _ids.continue_after(value)


def make_request_id(generation_id: str, digest: bytes) -> str:
    """The request id of a generation whose request has none; those of equal requests begin alike, and sort by age."""
    return f"{digest[:8].hex()}.{generation_id}"
