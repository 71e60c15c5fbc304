"""What callers and watchers did and saw, and what was done to the server."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import CancelOutcome, State
from atelier_client import Progress
from tests.siege.plan import Planned

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """One event, the same for whoever sees it."""

    sequence: int
    state: str
    engine: str
    attempt: int
    stage: str
    step: int
    steps: int
    progress: float
    queue_position: int | None

    @classmethod
    def from_message(cls, event: pb.StreamProgressResponse) -> SeenEvent:
        """The event as it came over the wire."""
        return cls(
            sequence=event.sequence,
            state=State.Name(event.state).removeprefix("STATE_"),
            engine=event.engine,
            attempt=event.attempt,
            stage=event.stage,
            step=event.step,
            steps=event.steps,
            progress=event.progress,
            queue_position=event.queue_position if event.HasField("queue_position") else None,
        )

    @classmethod
    def from_progress(cls, event: Progress) -> SeenEvent:
        """The event as a client delivers it."""
        return cls(
            sequence=event.sequence,
            state=event.state.name,
            engine=event.engine,
            attempt=event.attempt,
            stage=event.stage,
            step=event.step,
            steps=event.steps,
            progress=event.progress,
            queue_position=event.queue_position,
        )


@dataclass(slots=True, kw_only=True)
class Stream:
    """What one stream delivered."""

    generation_id: str
    after: int
    """Only events with a greater number were asked for."""
    events: list[SeenEvent] = field(default_factory=list)
    completed: bool = False
    """Whether the server ended it, without an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call for a generation ended, other than by the loss of the server."""

    generation_id: str = ""
    """Id in the answer; empty in an error that names none."""
    state: str = ""
    """State in the answer; empty in an error."""
    reason: str = ""
    """Reason of the error; empty in an answer."""
    code: str = ""
    """Status or class of the error; empty in an answer."""


@dataclass(slots=True, kw_only=True)
class Asked:
    """What was done to one generation, and how it was answered."""

    planned: Planned
    answers: list[Answer] = field(default_factory=list)
    hang_ups: int = 0
    """Calls that waited for it and were dropped by their caller."""
    cancels: list[CancelOutcome.ValueType] = field(default_factory=list)
    """Answers to cancellations on purpose."""
    gave_up: bool = False
    """Whether its caller had no id to ask again with, and no answer."""
    lost_cancels: int = 0
    """Cancellations that were sent and not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Something that was done to the server."""

    kind: str
    at: float
    """Unix time in seconds."""


@dataclass(slots=True, eq=False)
class Recorder:
    """Collects while the siege lasts."""

    asked: dict[str, Asked] = field(default_factory=dict)
    """By request id."""
    streams: list[Stream] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Calls that were to be repeated, counted by code and reason."""
    texts: dict[str, str] = field(default_factory=dict)
    """What the first of each kind of these said."""
    ids: dict[str, str] = field(default_factory=dict)
    """Request ids by the ids of accepted generations."""
    ended: set[str] = field(default_factory=set)
    """Ids of generations that are known to have ended."""
    newest: float = field(default_factory=time.monotonic)
    """When something was last heard from the server."""

    def begin(self, planned: Planned) -> Asked:
        """Note that callers ask for the generation."""
        return self.asked.setdefault(planned.request_id, Asked(planned=planned))

    def answer(self, request_id: str, answer: Answer) -> None:
        """Note an answer."""
        self.newest = time.monotonic()
        self.asked[request_id].answers.append(answer)
        if answer.generation_id:
            self.ids.setdefault(answer.generation_id, request_id)
        if answer.generation_id and (answer.state in ENDED or answer.reason):
            self.ended.add(answer.generation_id)

    def refuse(self, code: str, reason: str, text: str) -> None:
        """Note a call that is to be repeated; of each kind the first text is kept, with its time."""
        kind = f"{code} {reason}".strip()
        self.refusals[kind] += 1
        self.texts.setdefault(kind, f"{datetime.now(UTC):%H:%M:%S.%f}: {text}")

    def open(self, generation_id: str, after: int) -> Stream:
        """A stream to note events in."""
        stream = Stream(generation_id=generation_id, after=after)
        self.streams.append(stream)
        return stream

    def see(self, stream: Stream, event: SeenEvent) -> None:
        """Note an event."""
        self.newest = time.monotonic()
        stream.events.append(event)
        if event.state in ENDED:
            self.ended.add(stream.generation_id)

    def disturb(self, kind: str) -> None:
        """Note what is done to the server now."""
        self.disturbances.append(Disturbance(kind=kind, at=time.time()))

    def living(self) -> Mapping[str, str]:
        """Generations that are not known to have ended, with their request ids."""
        return {known: asked for known, asked in self.ids.items() if known not in self.ended}

    def unanswered(self) -> list[str]:
        """Request ids without an answer, or of generations that are not known to have ended."""
        silent = {asked for asked, noted in self.asked.items() if not noted.answers}
        return sorted(silent | set(self.living().values()))
