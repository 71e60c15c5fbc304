"""What an engine says while it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.media import Encoded, Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The work enters a new stage."""

    name: str
    """One lower-case word: encode_text, denoise, decode, queued, download …"""
    queue_position: int | None = None
    """Tasks ahead at a remote service, where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """A remote service has taken the work. The next event comes only when `handle` is safely stored.

    Should the process die, the task comes again with `resume` set to the handle: the engine then finds the
    work it has paid for instead of asking for it again.
    """

    handle: str
    """What finds the work again; means something to this engine alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the current stage is done. Steps of a task only ever count up."""

    index: int
    """Counts from 1 over the whole task."""
    total: int
    """Steps of the whole task; 0 while not known."""
    preview: Encoded | None = None
    """A small picture of the work so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One picture or sound is done."""

    media: Media
    """The picture or sound."""
    seed: int
    """The seed it was made with."""
    flagged: bool = False
    """Whether a safety check flagged it."""
    cached: bool = False
    """Whether it was made before, for an equal task, and is given again."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """What was added to the model for this task: `lora NAME`, for instance, to the file's SHA-256."""


Event = Stage | Dispatched | Step | Output
