"""One attempt at a generation, as far as it has come."""

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
    """What a worker knows of the work in its hands."""

    claim: Claim
    """The right to do it."""
    generation: Generation
    """A copy of the record, to be filled in."""
    started: Timestamp
    """When this attempt began."""
    timer: StageTimer = field(default_factory=StageTimer)
    """Times the stages."""
    step: int = 0
    """Steps done."""
    steps: int = 0
    """Steps in all; 0 while not known."""
    last_snapshot: Event = field(default_factory=Event)
    """How far it came; set when it has ended."""

    @classmethod
    def start(cls, claim: Claim) -> Attempt:
        """An attempt that begins now."""
        generation, started = Generation(), Timestamp()
        generation.CopyFrom(claim.generation)
        started.GetCurrentTime()
        return cls(claim, generation, started)

    def snapshot(self) -> Event:
        """An event that says where the work stands."""
        progress = self.step / self.steps if self.steps else 0.0
        event = Event(stage=self.timer.stage, step=self.step, steps=self.steps, progress=progress)
        if progress:
            seconds = self.timer.total_seconds * (1 / progress - 1)
            event.estimated_remaining.FromMicroseconds(int(seconds * 1e6))
        return event

    def record_stage(self, stage: Stage) -> Event:
        """Enter a stage; returns the event for it, with the place in a remote queue where it is known."""
        self.timer.enter(stage.name)
        event = self.snapshot()
        if stage.queue_position is not None:
            event.queue_position = stage.queue_position
        return event

    def record_step(self, step: Step) -> Event:
        """Note a step that is done; returns the event that tells of it."""
        self.step, self.steps = step.index, step.total
        event = self.snapshot()
        if step.preview is not None:
            size = ImageSize(width=step.preview.width, height=step.preview.height)
            preview = Preview(media_type=step.preview.media_type, data=step.preview.data, size=size)
            event.preview.CopyFrom(preview)
        return event

    def record_end(self, outcome: AttemptOutcome.ValueType, failure: Failure | None = None) -> None:
        """Write down in the receipt how it ended, and the time that each stage took."""
        engine = self.generation.engine
        self.last_snapshot = self.snapshot()
        self.generation.receipt.timings.extend(self.timer.record_timings(engine))
        receipt.add_attempt(self.generation, self.claim.attempt, self.started, outcome, failure)
