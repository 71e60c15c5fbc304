"""Measures the stages of an attempt."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration

from atelier.v1 import generation_pb2 as pb
from atelier_server.metrics import STAGE_SECONDS, histogram
from atelier_server.store.protocol import Claim
from atelier_server.tracing.exporter import find_exemplar

_MAX_INTERVALS = 256  # kept of one attempt, for traces


class StageTimer:
    """Measures consecutive stages; the times of a stage that repeats are added up."""

    def __init__(self) -> None:
        """Start outside any stage."""
        self.intervals: list[tuple[str, float, float]] = []
        """The first stages in their order, each with its start and end by `time.perf_counter`."""
        self._seconds: dict[str, float] = {}
        self._stage = ""
        self._started_at = self._stage_started_at = time.perf_counter()

    @property
    def stage(self) -> str:
        """Name of the current stage; empty outside any."""
        return self._stage

    @property
    def started_at(self) -> float:
        """When the timer was made, by `time.perf_counter`."""
        return self._started_at

    @property
    def total_seconds(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._started_at

    def enter(self, stage: str) -> None:
        """End the current stage and begin another."""
        now = time.perf_counter()
        if self._stage:
            self._seconds[self._stage] = (
                self._seconds.get(self._stage, 0.0) + now - self._stage_started_at
            )
            if len(self.intervals) < _MAX_INTERVALS:
                self.intervals.append((self._stage, self._stage_started_at, now))
        self._stage, self._stage_started_at = stage, now

    def record_timings(self, engine: str, claim: Claim) -> list[pb.Timing]:
        """End the current stage; the time of each, in the order first entered. Also updates the metrics."""
        self.enter("")
        exemplar = find_exemplar(claim.metadata.trace_context, claim.generation.id)
        for stage, seconds in self._seconds.items():
            histogram(STAGE_SECONDS, engine, stage).observe(seconds, exemplar)
        return [
            pb.Timing(
                stage=stage, duration=Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
            )
            for stage, seconds in self._seconds.items()
        ]
