"""Adds up the time spent in each stage."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration

from atelier.v1.generation_pb2 import Timing
from atelier_server.metrics import STAGE_SECONDS


class StageTimer:
    """Times stages that follow one another; a stage that comes again is added to."""

    def __init__(self) -> None:
        """Start outside any stage."""
        self._seconds: dict[str, float] = {}
        self._stage = ""
        self._started_at = self._stage_started_at = time.perf_counter()

    @property
    def stage(self) -> str:
        """The stage that is being timed."""
        return self._stage

    @property
    def total_seconds(self) -> float:
        """Time since the first stage began."""
        return time.perf_counter() - self._started_at

    def enter(self, stage: str) -> None:
        """End the stage at hand and begin another."""
        now = time.perf_counter()
        if self._stage:
            self._seconds[self._stage] = (
                self._seconds.get(self._stage, 0.0) + now - self._stage_started_at
            )
        self._stage, self._stage_started_at = stage, now

    def record_timings(self, engine: str) -> list[Timing]:
        """The stages in the order in which they were first entered; also goes into the metrics."""
        self.enter("")
        for stage, seconds in self._seconds.items():
            STAGE_SECONDS.labels(engine, stage).observe(seconds)
        return [
            Timing(
                stage=stage, duration=Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
            )
            for stage, seconds in self._seconds.items()
        ]
