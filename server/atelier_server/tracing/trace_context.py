"""Which trace a generation belongs to: that of its caller, or one with the number of the generation itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # as in `ids`
_SAMPLED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A trace, and the span of the caller in it."""

    trace_id: int
    """128 bits."""
    caller_span_id: int = 0
    """64 bits; 0 for a trace that begins here."""
    is_sampled: bool = False
    """Whether the caller records it; of no meaning for a trace that begins here."""

    @property
    def text(self) -> str:
        """The trace's id as the standard writes it, and as lines of the log have it."""
        return f"{self.trace_id:032x}"


def find_trace(trace_context: Mapping[str, str], generation_id: str) -> Trace:
    """The trace of the generation: that of its caller; without one, its id read as a number of 128 bits.

    Source: W3C Trace Context, 3.2 (traceparent); a header that is not of its form is ignored.
    """
    found = _TRACEPARENT.fullmatch(trace_context.get("traceparent", ""))
    if found is not None and int(found["trace"], 16) and int(found["span"], 16):
        return Trace(
            trace_id=int(found["trace"], 16),
            caller_span_id=int(found["span"], 16),
            is_sampled=bool(int(found["flags"], 16) & _SAMPLED),
        )
    number = 0
    for character in generation_id:
        number = number << 5 | max(0, _ALPHABET.find(character))
    return Trace(trace_id=number & (1 << 128) - 1)
