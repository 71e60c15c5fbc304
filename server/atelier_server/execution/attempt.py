"""The state of one attempt at a generation, in the worker that executes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import ImageSize
from atelier.v1.generation_pb2 import AttemptOutcome, Failure, Generation, Preview
from atelier_engines.event import Stage, Step
from atelier_server.execution import receipt
from atelier_server.execution.stage_timer import StageTimer
from atelier_server.store.protocol import Claim, Event


@dataclass(slots=True, eq=False)
class Attempt:
    """What has happened so far, and the record that it will be written into."""

    claim: Claim
    """The right to execute it."""
    generation: Generation
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
        generation, started = Generation(), Timestamp()
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
            preview = Preview(media_type=step.preview.media_type, data=step.preview.data, size=size)
            event.preview.CopyFrom(preview)
        return event

    def record_end(self, outcome: AttemptOutcome.ValueType, failure: Failure | None = None) -> None:
        """Add the outcome, and the time of each stage, to the receipt."""
        engine = self.generation.engine
        self.last_snapshot = self.snapshot()
        self.generation.receipt.timings.extend(self.timer.record_timings(engine))
        receipt.add_attempt(self.generation, self.claim.attempt, self.started, outcome, failure)
