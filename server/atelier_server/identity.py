"""Draws names: sortable by time, impossible to guess."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_LENGTH = 26
_RANDOM_BITS = 80


def new_id() -> str:
    """26 lower-case characters: 48 bits of Unix milliseconds, then 80 random bits, so ids sort by age.

    Source: the ULID specification (layout and alphabet), written in lower case.
    """
    value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def new_seed() -> int:
    """A seed from 0 to 2**32 - 1: short enough to be typed again."""
    return secrets.randbits(32)
