"""One attempt at a generation in the worker that executes it: its progress, its timings, its part of the receipt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1 import generation_pb2 as pb
from atelier.v1.artifact_pb2 import ImageSize
from atelier_engines.capabilities import Capabilities
from atelier_engines.event import Stage, Step
from atelier_engines.task import ImageTask, Task
from atelier_server.admission.cost import estimate_cost
from atelier_server.engines.status import EngineStatus
from atelier_server.metrics import STAGE_SECONDS
from atelier_server.store.protocol import Claim, Event


class StageTimer:
    """Measures consecutive stages; the times of a stage that repeats are added up."""

    def __init__(self) -> None:
        """Start outside any stage."""
        self._seconds: dict[str, float] = {}
        self._stage = ""
        self._started_at = self._stage_started_at = time.perf_counter()

    @property
    def stage(self) -> str:
        """Name of the current stage; empty outside any."""
        return self._stage

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
        self._stage, self._stage_started_at = stage, now

    def record_timings(self, engine: str) -> list[pb.Timing]:
        """End the current stage; the time of each, in the order first entered. Also updates the metrics."""
        self.enter("")
        for stage, seconds in self._seconds.items():
            STAGE_SECONDS.labels(engine, stage).observe(seconds)
        return [
            pb.Timing(
                stage=stage, duration=Duration(nanos=int(seconds % 1 * 1e9), seconds=int(seconds))
            )
            for stage, seconds in self._seconds.items()
        ]


@dataclass(slots=True, eq=False)
class Attempt:
    """What has happened so far, and the record that it will be written into."""

    claim: Claim
    """The right to execute it."""
    generation: pb.Generation
    """A copy of the record, which the attempt completes."""
    started: Timestamp
    """When this attempt began."""
    timer: StageTimer = field(default_factory=StageTimer)
    """Measures the stages."""
    step: int = 0
    """Number of steps that are done."""
    steps: int = 0
    """Total number of steps; 0 while unknown."""
    last_snapshot: Event = field(default_factory=Event)
    """Progress at the end of the attempt; set by `record_end`."""

    @classmethod
    def start(cls, claim: Claim) -> Attempt:
        """Begin an attempt now."""
        generation, started = pb.Generation(), Timestamp()
        generation.CopyFrom(claim.generation)
        started.GetCurrentTime()
        return cls(claim, generation, started)

    def snapshot(self) -> Event:
        """An event that describes the progress now."""
        progress = self.step / self.steps if self.steps else 0.0
        event = Event(stage=self.timer.stage, step=self.step, steps=self.steps, progress=progress)
        if progress:
            seconds = self.timer.total_seconds * (1 / progress - 1)
            event.estimated_remaining.FromMicroseconds(int(seconds * 1e6))
        return event

    def record_stage(self, stage: Stage) -> Event:
        """Record the stage that begins, and the position in a remote queue if it has one; returns the event to log."""
        self.timer.enter(stage.name)
        event = self.snapshot()
        if stage.queue_position is not None:
            event.queue_position = stage.queue_position
        return event

    def record_step(self, step: Step) -> Event:
        """Record a step that is done; returns the event to log."""
        self.step, self.steps = step.index, step.total
        event = self.snapshot()
        if step.preview is not None:
            size = ImageSize(width=step.preview.width, height=step.preview.height)
            preview = pb.Preview(
                media_type=step.preview.media_type, data=step.preview.data, size=size
            )
            event.preview.CopyFrom(preview)
        return event

    def record_recipe(self, engine: EngineStatus, task: Task) -> None:
        """Write into the receipt what is needed to repeat the task on the engine."""
        recipe = pb.Recipe(
            engine_type=engine.type,
            model=task.model,
            weights_digest=_find_digest(engine.capabilities, task),
            seeds=task.seeds if isinstance(task, ImageTask) else [task.seed],
            versions=engine.capabilities.versions,
        )
        self.generation.receipt.recipe.CopyFrom(recipe)

    def record_cost(self, engine: EngineStatus, task: Task) -> None:
        """Write into the receipt what the task cost on the engine, if the engine has a price."""
        if engine.capabilities.price is not None:
            self.generation.receipt.cost.CopyFrom(estimate_cost(engine, task))

    def record_end(
        self, outcome: pb.AttemptOutcome.ValueType, failure: pb.Failure | None = None
    ) -> None:
        """Add the attempt with its outcome, and the time of each stage, to the receipt."""
        engine, receipt = self.generation.engine, self.generation.receipt
        self.last_snapshot = self.snapshot()
        receipt.timings.extend(self.timer.record_timings(engine))
        attempt = receipt.attempts.add(
            number=self.claim.attempt,
            engine=engine,
            start_time=self.started,
            outcome=outcome,
            failure=failure,
        )
        attempt.end_time.GetCurrentTime()


def _find_digest(capabilities: Capabilities, task: Task) -> str:
    side = capabilities.image if isinstance(task, ImageTask) else capabilities.audio
    models = side.models if side is not None else ()
    return next((model.digest for model in models if model.name == task.model), "")
