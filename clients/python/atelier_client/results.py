"""Results of the server: frozen dataclasses without protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from atelier_client.enums import (
    AttemptOutcome,
    CancelCause,
    CancelOutcome,
    Disposition,
    EngineState,
    Reproducibility,
    SelectionReason,
    ServingStatus,
    State,
)
from atelier_client.errors import NotDownloadedError
from atelier_client.media import Artifact
from atelier_client.tasks import AudioTask, ImageTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of a generation, with its bytes if they were fetched."""

    artifact: Artifact
    seed: int
    """Seed that it was generated with."""
    content: bytes | None = None
    """The encoded bytes; None until fetched."""
    uri: str = ""
    """URI of the same bytes; empty where there is none."""
    flagged: bool = False
    """Whether a safety check flagged it."""

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
                f"the bytes of artifact {self.artifact.id} were not fetched: call client.fetch first"
            )
        return self.content

    def save(self, path: str | Path) -> Path:
        """Write the encoded bytes to a file; missing folders are created.

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
    """An image."""

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.artifact.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.artifact.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio(Output):
    """An audio output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reason of a failure."""

    reason: str
    """Upper-snake reason, such as ENGINE_FAILED."""
    code: int
    """gRPC status code as a number."""
    message: str
    retryable: bool
    """Whether the same request may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a generation, as requested and as used."""

    name: str
    value: object
    """JSON value that was used; None if the parameter was ignored."""
    requested: object
    """JSON value that was requested; None if there was none."""
    disposition: Disposition
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a generation."""

    number: int
    """Number of the attempt, from 1."""
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
    """The data needed to reproduce a generation."""

    engine_type: str
    model: str
    weights_digest: str
    seeds: tuple[int, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Why an engine was selected."""

    reason: SelectionReason
    explanation: str
    """The reason in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Parameters, attempts, timings and cost of a generation."""

    parameters: tuple[Parameter, ...]
    attempts: tuple[Attempt, ...]
    timings: tuple[Timing, ...]
    cost: Cost | None
    reproducibility: Reproducibility
    recipe: Recipe | None
    cached: bool = False
    """Whether the outputs come from the engine's result cache."""
    selection: Selection | None = None
    """Why the engine was selected; None from servers that do not say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """An accepted task, its state and its outputs."""

    id: str
    request_id: str
    state: State
    engine: str
    task: ImageTask | AudioTask
    """The task as requested; its input images are artifact ids or URIs."""
    outputs: tuple[Image | Audio, ...]
    receipt: Receipt | None
    failure: Failure | None
    """The reason in the state FAILED; else None."""
    cancel_outcome: CancelOutcome
    stopped_at_step: int
    """The last completed step, if it was cancelled while running; else 0."""
    create_time: datetime | None
    start_time: datetime | None
    """Start of the first attempt."""
    end_time: datetime | None
    expire_time: datetime | None
    cancel_cause: CancelCause = CancelCause.UNSPECIFIED
    """Why it was cancelled; UNSPECIFIED if it was not, and from servers that do not say so."""

    @property
    def prompt(self) -> str:
        """The prompt of its task."""
        return self.task.prompt

    @property
    def images(self) -> tuple[Image, ...]:
        """The image outputs, in order."""
        return tuple(output for output in self.outputs if isinstance(output, Image))

    @property
    def audio(self) -> tuple[Audio, ...]:
        """The audio outputs, in order."""
        return tuple(output for output in self.outputs if isinstance(output, Audio))

    @property
    def seconds(self) -> float | None:
        """Seconds from acceptance to the end; None before the end."""
        if self.create_time is None or self.end_time is None:
            return None
        return (self.end_time - self.create_time).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A small preview image of a running generation."""

    media_type: str
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One event of a generation: a full snapshot of its state."""

    generation_id: str
    sequence: int
    """Sequence number 1, 2, 3 … without gaps."""
    state: State
    time: datetime | None
    engine: str
    attempt: int
    """Number of the attempt, from 1; 0 while queued."""
    stage: str
    step: int
    steps: int
    """Steps in total; 0 while unknown."""
    progress: float
    """Completed fraction, 0 to 1."""
    queue_position: int | None
    """Tasks ahead in the queue of the server, or of a remote service; None where unknown."""
    estimated_remaining_seconds: float | None
    preview: Preview | None
    generation: Generation | None
    """The finished generation, in the last event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """The result of a cancellation."""

    outcome: CancelOutcome
    stopped_at_step: int
    """The last completed step, if it was stopped while running; else 0."""
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The engine, parameters and cost that a request would have."""

    engine: str
    parameters: tuple[Parameter, ...]
    cost: Cost | None
    estimated_wait_seconds: float | None
    estimated_duration_seconds: float | None
    accepted: bool
    """Whether it would be accepted now."""
    rejection: Failure | None
    """The reason if it would not be accepted."""
    selection: Selection | None = None
    """Why the engine was selected; None from servers that do not say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """The health of one engine."""

    engine: str
    state: EngineState
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of the server and of its engines."""

    status: ServingStatus
    engines: tuple[EngineHealth, ...]
    version: str
    uptime_seconds: float
    message: str = ""
    """Why the server is not SERVING; empty while it is."""
    accepts_generations: bool = False
    """Whether it accepts generations for engines that are READY, also while it is not SERVING because others are not;
    False from servers that do not say so."""
