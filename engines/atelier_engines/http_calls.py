"""Notes which requests an engine sends to its service, for whoever runs it and wants to know."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_MAX_CALLS = 128
"""Calls that are noted of one run; a job that is polled for an hour sends thousands."""


@dataclass(slots=True)
class HttpCall:
    """One request to a service."""

    service: str
    """Name of the service: fal, bfl …"""
    method: str
    """Method of HTTP."""
    started: float
    """When it was sent, by `time.perf_counter`."""
    ended: float = 0.0
    """When its response was complete, or it failed; by `time.perf_counter`."""
    status: int = 0
    """Status of the response; 0 for none."""


_calls: ContextVar[list[HttpCall] | None] = ContextVar("http_calls", default=None)


def collect_calls() -> list[HttpCall]:
    """A list to which the calls of this context are added from now on, the first 128 of them."""
    calls: list[HttpCall] = []
    _calls.set(calls)
    return calls


@contextmanager
def note_call(service: str, method: str) -> Generator[HttpCall]:
    """Note one call inside the context; whoever makes it sets the status."""
    call = HttpCall(service, method, time.perf_counter())
    try:
        yield call
    finally:
        call.ended = time.perf_counter()
        calls = _calls.get()
        if calls is not None and len(calls) < _MAX_CALLS:
            calls.append(call)
