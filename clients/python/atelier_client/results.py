"""Results of the server: frozen dataclasses without protobuf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from atelier_client.engines import EnginePause
from atelier_client.enums import (
    AttemptOutcome,
    CancelCause,
    CancelOutcome,
    Disposition,
    EngineState,
    Priority,
    Reproducibility,
    SelectionReason,
    ServingStatus,
    State,
)
from atelier_client.notebook_html import Row, contact_sheet, figure_tag
from atelier_client.outputs import Audio, Image
from atelier_client.representation import format_size, shorten
from atelier_client.tasks import AudioTask, ImageTask

_THUMBNAIL_SIDE = 384
"""Longest side in pixels of the images of a contact sheet with several."""


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
    replica: str = ""
    """Address of the instance that it ran on, where the engine has several."""


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
class Reuse:
    """What an output was made of that was made for another request."""

    prompt: str
    """The prompt that it was made with."""
    similarity: float
    """Cosine similarity of that prompt and the one of the request, up to 1; 1 for the same prompt."""


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
    """Whether the outputs were made before: they come from the engine's result cache, or see `reuse`."""
    selection: Selection | None = None
    """Why the engine was selected; None from servers that do not say so."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """What a remote service counted, by name, such as image_output_tokens."""
    cost_explanation: str = ""
    """What the cost stands on, or why it is unknown."""
    memory_bytes: int = 0
    """Memory of the device that an image took beside the model's weights, as far as the engine knows; else 0."""
    reuse: Reuse | None = None
    """Set when the output was made before, for another request of the same or a similar prompt."""
    cost_units: float = 0.0
    """Amount of work: million pixels x steps x images, or seconds of audio x steps; 0 from servers that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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
    cancel_reason: str = ""
    """Why the queue that it waited in was cleared, if it was cancelled with it; may be empty."""
    subject: str = ""
    """Who of the tenant asked for it, for a caller with the scope admin that has looked it up; else empty."""
    priority: Priority = Priority.UNSPECIFIED
    """Whether it goes before others of its tenant; UNSPECIFIED from servers that know no priorities."""

    def __repr__(self) -> str:
        parts = [f"{self.state} {shorten(self.prompt)!r}", f"engine {self.engine}"]
        if self.failure is not None:
            parts.append(self.failure.reason)
        parts += [output.describe() for output in self.outputs[:1]]
        if len(self.outputs) > 1:
            parts.append(f"{len(self.outputs)} outputs")
        if self.seconds is not None:
            parts.append(f"{self.seconds:.2f} s")
        return f"<Generation {self.id} {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """The contact sheet that a notebook shows: all outputs, and the recipe."""
        side = _THUMBNAIL_SIDE if len(self.outputs) > 1 else 0
        figures = [figure_tag(output.to_html(side), output.describe()) for output in self.outputs]
        return contact_sheet(figures, repr(self)[1:-1], tuple(_recipe_rows(self)))

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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Preview:
    """A small preview image of a running generation."""

    media_type: str
    data: bytes
    width: int
    height: int

    def __repr__(self) -> str:
        size = format_size(len(self.data))
        return f"<Preview {self.width}×{self.height} {self.media_type}, {size}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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

    def __repr__(self) -> str:
        parts = [f"{self.state}", *filter(None, [self.stage]), f"{self.progress:.0%}"]
        if self.steps:
            parts.insert(-1, f"step {self.step} of {self.steps}")
        if self.preview is not None:
            parts.append("with a preview")
        return f"<Progress {self.sequence} of {self.generation_id}: {', '.join(parts)}>"


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
    cost_units: float = 0.0
    """Amount of work: million pixels x steps x images, or seconds of audio x steps; 0 from servers that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHealth:
    """The health of one engine."""

    engine: str
    state: EngineState
    message: str
    pause: EnginePause | None = None
    """Set while it begins nothing of what waits for it."""


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


def _recipe_rows(generation: Generation) -> Iterator[Row]:
    """What a contact sheet says about a generation, in the receipt's order."""
    yield "prompt", generation.prompt
    yield "id", generation.id
    yield "engine", generation.engine
    if generation.failure is not None:
        yield generation.failure.reason, generation.failure.message
    receipt = generation.receipt
    if receipt is None:
        return
    for parameter in receipt.parameters:
        yield parameter.name, _describe_parameter(parameter)
    if receipt.recipe is not None:
        yield "model", receipt.recipe.model
        yield "weights", receipt.recipe.weights_digest
        yield from receipt.recipe.versions.items()
    if receipt.cost is not None:
        yield "cost", f"{receipt.cost.amount} {receipt.cost.currency}"


def _describe_parameter(parameter: Parameter) -> str:
    """The value that was used, and why it is not the one requested."""
    if parameter.disposition in {Disposition.UNSPECIFIED, Disposition.APPLIED}:
        return f"{parameter.value}"
    parts = [f"{parameter.value} ({parameter.disposition.replace('_', ' ')}", parameter.explanation]
    return f"{': '.join(filter(None, parts))})"
