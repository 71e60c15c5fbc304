"""Measures generations for the metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping

from atelier.v1.generation_pb2 import (
    STATE_CANCELLED,
    STATE_FAILED,
    STATE_RUNNING,
    STATE_SUCCEEDED,
    AttemptOutcome,
    Generation,
    State,
)
from atelier_server.metrics import (
    ATTEMPTS,
    FAILURES,
    GENERATION_SECONDS,
    GENERATIONS,
    QUEUE_SECONDS,
    counter,
    histogram,
)
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import ENDED, Event
from atelier_server.tracing.exporter import find_exemplar


class GenerationMeter:
    """Counts and times generations for the metrics: their events say when they start, and how they end."""

    def __init__(self) -> None:
        """Start without generations; those that are not followed from their first event are timed by their dates."""
        self._accepted: dict[str, float] = {}
        self._started: set[str] = set()
        self._timed_out: set[str] = set()
        self._batch: set[str] = set()
        self._exemplars: dict[str, dict[str, str]] = {}

    def expect(self, generation_id: str, *, batch: bool, trace_context: Mapping[str, str]) -> None:
        """Note priority and trace of a generation that is about to be accepted; if it is not, `forget` it."""
        if batch:
            self._batch.add(generation_id)
        exemplar = find_exemplar(trace_context, generation_id)
        if exemplar is not None:
            self._exemplars[generation_id] = exemplar

    def time_out(self, generation_id: str) -> None:
        """Note that the generation is about to be cancelled because the deadline of its last call has passed."""
        self._timed_out.add(generation_id)

    def forget(self, generation_id: str) -> None:
        """Forget the generation, which has ended."""
        self._accepted.pop(generation_id, None)
        self._started.discard(generation_id)
        self._timed_out.discard(generation_id)
        self._batch.discard(generation_id)
        self._exemplars.pop(generation_id, None)

    def forget_ended(self, event: Event) -> None:
        """Forget a generation that has ended, also in another process, which measures it."""
        if event.state in ENDED:
            self.forget(event.generation_id)

    def follow(self, event: Event) -> None:
        """Measure what the event tells; to be called with every event but those of progress."""
        generation_id = event.generation_id
        if event.state in ENDED:
            self._count(event.generation)
            self.forget(generation_id)
        elif event.sequence == 1:
            self._accepted[generation_id] = time.monotonic()
        elif event.state == STATE_RUNNING and generation_id not in self._started:
            self._started.add(generation_id)
            accepted = self._accepted.get(generation_id)
            if accepted is not None:
                waited = time.monotonic() - accepted
                batch = generation_id in self._batch
                self._observe_wait(event.engine, generation_id, waited, batch=batch)

    def _count(self, ended: Generation) -> None:
        counter(GENERATIONS, ended.engine, self._find_outcome(ended)).inc()
        if ended.state == STATE_FAILED:
            counter(FAILURES, ended.engine, ended.failure.reason).inc()
        for attempt in ended.receipt.attempts:
            outcome = AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_")
            counter(ATTEMPTS, attempt.engine, outcome.lower()).inc()
        accepted = self._accepted.get(ended.id)
        if accepted is None and len(ended.receipt.attempts) == 1:
            waited = ended.start_time.ToMicroseconds() - ended.create_time.ToMicroseconds()
            seconds = max(0.0, waited / 1e6)
            self._observe_wait(ended.engine, ended.id, seconds, batch=is_batch(ended))
        if ended.state == STATE_SUCCEEDED:
            dated = (ended.end_time.ToMicroseconds() - ended.create_time.ToMicroseconds()) / 1e6
            seconds = max(0.0, dated) if accepted is None else time.monotonic() - accepted
            exemplar = self._exemplars.get(ended.id)
            histogram(GENERATION_SECONDS, ended.engine).observe(seconds, exemplar)

    def _find_outcome(self, ended: Generation) -> str:
        timed_out = ended.state == STATE_CANCELLED and ended.id in self._timed_out
        if timed_out or ended.failure.reason == "DEADLINE_EXCEEDED":
            return "deadline_exceeded"
        return State.Name(ended.state).removeprefix("STATE_").lower()

    def _observe_wait(
        self, engine: str, generation_id: str, seconds: float, *, batch: bool
    ) -> None:
        priority = "batch" if batch else "interactive"
        exemplar = self._exemplars.get(generation_id)
        histogram(QUEUE_SECONDS, engine, priority).observe(seconds, exemplar)
