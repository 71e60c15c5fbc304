"""The spans of one attempt: the time in the queue, the stages, requests to the service, and the record of the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from atelier.v1.generation_pb2 import AttemptOutcome, State
from atelier_server.store.protocol import ENDED
from atelier_server.tracing.exporter import find_exporter
from atelier_server.tracing.spans import Span, Value, find_generation_span_id
from atelier_server.tracing.trace_context import find_trace

if TYPE_CHECKING:
    from atelier_server.execution.attempt import Attempt

_log = logging.getLogger(__name__)


def export_attempt(attempt: Attempt) -> None:
    """Export the attempt, which has just ended, and the whole generation if it ended with it."""
    exporter = find_exporter()
    if exporter is None:
        return
    metadata, generation_id = attempt.claim.metadata, attempt.generation.id
    if not exporter.is_sampled(find_trace(metadata.trace_context, generation_id)):
        return
    try:
        exporter.export(_AttemptSpans(attempt).build())
    except Exception:  # noqa: BLE001 (the work is done, and the worker goes on)
        _log.exception("trace_not_exported")


class _AttemptSpans:
    """Builds the spans: dates come from the record, what is inside an attempt from the monotonic clock."""

    def __init__(self, attempt: Attempt) -> None:
        generation = attempt.generation
        self._attempt = attempt
        self._trace = find_trace(attempt.claim.metadata.trace_context, generation.id)
        self._whole = find_generation_span_id(generation.id)
        self._started_ns = attempt.started.ToNanoseconds()
        self._ended_ns = self._date(time.perf_counter())

    def build(self) -> Iterator[Span]:
        """Every span, the innermost first."""
        attempt, generation = self._attempt, self._attempt.generation
        ended = self._find_end()
        own = self._make(
            f"attempt {attempt.claim.attempt}",
            self._whole,
            (self._started_ns, self._ended_ns),
            {**self._describe(), "atelier.outcome": ended},
            error=generation.receipt.attempts[-1].failure.reason if ended == "failed" else "",
        )
        for stage, start, end in attempt.timer.intervals:
            yield self._make(stage, own.span_id, (self._date(start), self._date(end)), {})
        yield from self._build_calls(own.span_id)
        if attempt.timer.intervals:
            recorded = self._date(attempt.timer.intervals[-1][2])
            yield self._make("record", own.span_id, (recorded, self._ended_ns), {})
        yield own
        waited_from = self._find_queued()
        yield self._make("queue", self._whole, (waited_from, self._started_ns), {})
        if generation.state in ENDED:
            yield self._build_generation()

    def _build_generation(self) -> Span:
        generation = self._attempt.generation
        state = State.Name(generation.state).removeprefix("STATE_").lower()
        return Span(
            name="generation",
            trace=self._trace,
            span_id=self._whole,
            parent_id=self._trace.caller_span_id,
            start_ns=generation.create_time.ToNanoseconds(),
            end_ns=self._ended_ns,
            attributes={**self._describe(), "atelier.state": state},
            error=generation.failure.reason,
        )

    def _build_calls(self, parent_id: int) -> Iterator[Span]:
        for call in self._attempt.http_calls:
            attributes: dict[str, Value] = {
                "http.request.method": call.method,
                "peer.service": call.service,
            }
            if call.status:
                attributes["http.response.status_code"] = call.status
            yield Span(
                name=f"{call.method} {call.service}",
                trace=self._trace,
                parent_id=parent_id,
                start_ns=self._date(call.started),
                end_ns=self._date(call.ended),
                kind="client",
                attributes=attributes,
                error="" if 0 < call.status < 400 else "no success",  # noqa: PLR2004 (statuses of HTTP)
            )

    def _make(
        self,
        name: str,
        parent_id: int,
        interval: tuple[int, int],
        attributes: Mapping[str, Value],
        error: str = "",
    ) -> Span:
        start, end = interval
        return Span(
            name=name, trace=self._trace, parent_id=parent_id, start_ns=start, end_ns=max(start, end),
            attributes=attributes, error=error,
        )  # fmt: skip

    def _describe(self) -> Mapping[str, Value]:
        claim, generation = self._attempt.claim, self._attempt.generation
        return {
            "atelier.generation": generation.id,
            "atelier.request_id": generation.request_id,
            "atelier.tenant": claim.metadata.tenant,
            "atelier.engine": self._find_engine(),
            "atelier.model": generation.receipt.recipe.model,
        }

    def _find_end(self) -> str:
        """How the attempt ended; one of which nothing was recorded was given back."""
        attempts = self._attempt.generation.receipt.attempts
        number = self._attempt.claim.attempt
        if not attempts or attempts[-1].number != number:
            return "released"
        return AttemptOutcome.Name(attempts[-1].outcome).removeprefix("ATTEMPT_OUTCOME_").lower()

    def _find_engine(self) -> str:
        """The engine of the attempt; the record may have the next one already."""
        generation = self._attempt.generation
        for attempt in generation.receipt.attempts:
            if attempt.number == self._attempt.claim.attempt:
                return attempt.engine
        return generation.engine

    def _find_queued(self) -> int:
        """When it entered the queue: at its acceptance, or when the attempt before ended."""
        generation = self._attempt.generation
        before = [
            attempt.end_time.ToNanoseconds()
            for attempt in generation.receipt.attempts
            if attempt.number < self._attempt.claim.attempt
        ]
        return max([generation.create_time.ToNanoseconds(), *before])

    def _date(self, moment: float) -> int:
        """The date of a moment of `time.perf_counter`."""
        return self._started_ns + int((moment - self._attempt.timer.started_at) * 1e9)
