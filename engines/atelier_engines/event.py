"""The events of a task that an engine yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.media import Encoded, Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The task enters a new stage."""

    name: str
    """One lower-case word: encode_text, denoise, decode, queued, download …"""
    queue_position: int | None = None
    """Number of tasks ahead at a remote service, where it reports it."""
    replica: str = ""
    """Address of the instance that runs the task from here on, where the engine has several; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """A remote service has accepted the job, or is about to. The next event is requested once `handle` was stored.

    If the process ends before the job does, the task is run again with `resume` set to the handle: the engine
    then finds the job that it has paid for instead of submitting another. If nobody can know whether it was
    accepted, because the process ended in between, the engine raises EngineUncertainError.
    """

    handle: str
    """Identifies the job; only this engine can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the current stage is done. The index only increases over a task."""

    index: int
    """Number of the step, from 1 over the whole task."""
    total: int
    """Number of steps of the whole task; 0 while unknown."""
    preview: Encoded | None = None
    """A small image of the intermediate result."""
    batch: int = 0
    """How many requests shared the run of the model that made it, of this task and of others; 0 where none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a remote service charges for one output, as far as that is known."""

    usage: Mapping[str, int] = field(default_factory=dict)
    """What the service counted, by name: `image_output_tokens`, for instance."""
    amount: float | None = None
    """The cost; None where the usage alone is known: then the price of the engine holds, if it has one."""
    currency: str = "USD"
    """ISO 4217 code."""
    explanation: str = ""
    """What the amount stands on, or why it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the engine tells of a field of its task, for the receipt."""

    field: str
    """Name of the task's field in the contract: prompt, duration …"""
    text: str
    """What became of its value, in one sentence without a capital and a full stop."""
    emulated: bool = False
    """Whether something else stands in for what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """What a clip was made of that is returned for another task."""

    prompt: str
    """The prompt that it was made with."""
    similarity: float
    """Cosine similarity of that prompt and the task's, up to 1; 1 for the same prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One image or audio clip is done."""

    media: Media
    """The image or audio."""
    seed: int
    """The seed it was made with."""
    flagged: bool = False
    """Whether a safety check flagged it."""
    cached: bool = False
    """Whether it comes from the result cache."""
    size_reason: str = ""
    """Why an image has another size than the task asks for; empty where it has that size."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Weights added to the model for this task: `lora NAME`, for instance, to the file's SHA-256."""
    memory_bytes: int = 0
    """Memory of the device that it took beside the model's weights, as far as known; else 0."""
    eager_runs: int = 0
    """Runs of networks since the last output that met a shape they are not compiled for, where they are compiled."""
    charge: Charge | None = None
    """What the service charges for it; None where it does not tell: then the price of the engine holds."""
    score: float | None = None
    """How well audio matches its prompt, the higher the better; None where nothing scored it."""
    notes: tuple[Note, ...] = ()
    """What the receipt is to say of audio; none for images."""
    reused: Reused | None = None
    """What it was made of, if it was made for another task; None otherwise, and for equal tasks."""


Event = Stage | Dispatched | Step | Output
