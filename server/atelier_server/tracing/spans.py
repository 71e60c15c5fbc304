"""A span: one interval of a trace, as it is exported."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from atelier_server.tracing.trace_context import Trace

Value = str | int | float | bool


def new_span_id() -> int:
    """64 random bits, never 0."""
    return secrets.randbits(64) or 1


def find_generation_span_id(generation_id: str) -> int:
    """The id of the span of a whole generation: the same for every process that works on it."""
    return int.from_bytes(hashlib.sha256(generation_id.encode()).digest()[:8]) or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One interval."""

    name: str
    """What was done: a call, a generation, an attempt, a stage."""
    trace: Trace
    """The trace that it belongs to."""
    parent_id: int
    """The span that it is part of; 0 for none."""
    start_ns: int
    """Nanoseconds since 1970."""
    end_ns: int
    """Nanoseconds since 1970."""
    span_id: int = field(default_factory=new_span_id)
    """Its own id."""
    kind: Literal["server", "internal", "client"] = "internal"
    """Whether it answers somebody, asks somebody, or neither."""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """What else is known: ids, names, numbers; never content of requests."""
    error: str = ""
    """The reason of a failure; empty for none."""
