"""What the server's answers say: plain frozen data, no protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from atelier_client.enums import (
    AttemptOutcome,
    CancelOutcome,
    Disposition,
    EngineState,
    Reproducibility,
    ServingStatus,
    State,
)
from atelier_client.errors import NotDownloadedError
from atelier_client.media import Artifact
from atelier_client.tasks import AudioTask, ImageTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One thing that was made, with its bytes where they were fetched."""

    artifact: Artifact
    seed: int
    """Seed it was made with."""
    content: bytes | None = None
    """The encoded bytes; None until fetched."""
    uri: str = ""
    """Where the bytes also lie; empty when nowhere."""
    flagged: bool = False
    """True when a safety check flagged it."""

    @property
    def media_type(self) -> str:
        """For instance image/png or audio/wav."""
        return self.artifact.media_type

    @property
    def data(self) -> bytes:
        """The encoded bytes.

        Raises:
            NotDownloadedError: they were not fetched; `client.fetch(generation)` does it.
        """
        if self.content is None:
            raise NotDownloadedError(
                f"the bytes of artifact {self.artifact.id} are not here: call client.fetch first"
            )
        return self.content

    def save(self, path: str | Path) -> Path:
        """Write the encoded bytes to a file, making its folder if need be.

        Raises:
            NotDownloadedError: they were not fetched; `client.fetch(generation)` does it.
            OSError: the file cannot be written.
        """
        target = Path(path)
        data = self.data
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Output):
    """A picture."""

    @property
    def width(self) -> int:
        """In pixels."""
        return self.artifact.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.artifact.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Output):
    """A sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed."""

    reason: str
    """Upper-snake, such as ENGINE_FAILED."""
    code: int
    """gRPC status code."""
    message: str
    retryable: bool
    """True when the same request may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter as it was used."""

    name: str
    value: object
    """JSON value that was used; None when the parameter was ignored."""
    requested: object
    """JSON value that was asked for; None when nothing was."""
    disposition: Disposition
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a generation."""

    number: int
    """Counts from 1."""
    engine: str
    start_time: datetime | None
    end_time: datetime | None
    outcome: AttemptOutcome
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time spent in one stage."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """An amount of money."""

    currency: str
    """ISO 4217 code."""
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is needed to repeat a generation."""

    engine_type: str
    model: str
    weights_digest: str
    seeds: tuple[int, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was really done, and how."""

    parameters: tuple[Parameter, ...]
    attempts: tuple[Attempt, ...]
    timings: tuple[Timing, ...]
    cost: Cost | None
    reproducibility: Reproducibility
    recipe: Recipe | None
    cached: bool = False
    """Whether the engine had made the outputs before, for an equal task, and gave them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """An accepted task and everything that happened to it."""

    id: str
    request_id: str
    state: State
    engine: str
    task: ImageTask | AudioTask
    """What was asked for; images that went in are the ids of their artifacts, or addresses."""
    outputs: tuple[Image | Audio, ...]
    receipt: Receipt | None
    failure: Failure | None
    """Set in the state FAILED."""
    cancel_outcome: CancelOutcome
    stopped_at_step: int
    """The last step that was done before it was stopped; else 0."""
    create_time: datetime | None
    start_time: datetime | None
    """When an engine first took it up."""
    end_time: datetime | None
    expire_time: datetime | None

    @property
    def prompt(self) -> str:
        """The prompt of its task."""
        return self.task.prompt

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures among the outputs, in order."""
        return tuple(output for output in self.outputs if isinstance(output, Image))

    @property
    def audio(self) -> tuple[Audio, ...]:
        """The sounds among the outputs, in order."""
        return tuple(output for output in self.outputs if isinstance(output, Audio))

    @property
    def seconds(self) -> float | None:
        """From acceptance to the end; None before it."""
        if self.create_time is None or self.end_time is None:
            return None
        return (self.end_time - self.create_time).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A small picture of work under way."""

    media_type: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One event of a generation's log: a full snapshot of where it stands."""

    generation_id: str
    sequence: int
    """Counts 1, 2, 3 … without gaps."""
    state: State
    time: datetime | None
    engine: str
    attempt: int
    """Counts from 1; 0 while waiting."""
    stage: str
    step: int
    steps: int
    """0 while not known."""
    progress: float
    """Share of the whole work done, 0 to 1."""
    queue_position: int | None
    """Generations ahead in the queue; None once it runs."""
    expected_remaining_seconds: float | None
    preview: Preview | None
    generation: Generation | None
    """The finished generation, in the last event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """How a cancellation went."""

    outcome: CancelOutcome
    stopped_at_step: int
    """The last step that was done, when it was stopped while working; else 0."""
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request would do."""

    engine: str
    parameters: tuple[Parameter, ...]
    cost: Cost | None
    expected_wait_seconds: float | None
    expected_duration_seconds: float | None
    accepted: bool
    """True when it would be accepted now."""
    rejection: Failure | None
    """Why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """Whether one engine can work now."""

    engine: str
    state: EngineState
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the service can work now."""

    status: ServingStatus
    engines: tuple[EngineHealth, ...]
    version: str
    uptime_seconds: float
