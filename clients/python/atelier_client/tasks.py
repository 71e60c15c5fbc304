"""What can be asked for. A field left at None takes the engine's own default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from atelier_client.enums import (
    AudioFormat,
    ControlType,
    ImageFormat,
    LoraRole,
    ResourceProfile,
    SafetyMode,
)
from atelier_client.media import Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One picture that steers the composition."""

    type: ControlType
    image: Media
    preprocess: bool = False
    """Compute the map from a photo instead of taking it as it is."""
    strength: float | None = None
    """Weight of its influence, 0 to 2."""
    start: float | None = None
    """Fraction of the denoising from which it is active."""
    end: float | None = None
    """Fraction of the denoising until which it is active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """One low-rank adaptation of a model."""

    name: str
    weight: float | None = None
    """-4 to 4."""
    role: LoraRole = LoraRole.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale:
    """A second pass that enlarges a picture."""

    factor: float
    """How many times wider and higher, above 1 to 8."""
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask:
    """One or more pictures made from words, and from other pictures where given."""

    prompt: str
    negative_prompt: str = ""
    style: str = ""
    model: str = ""
    width: int | None = None
    """In pixels, on the engine's grid."""
    height: int | None = None
    """In pixels, on the engine's grid."""
    steps: int | None = None
    guidance: float | None = None
    """Classifier-free guidance scale, 0 to 100."""
    seed: int | None = None
    """Of the first picture; the n-th uses seed + n. Drawn at random when None."""
    scheduler: str = ""
    num_images: int | None = None
    init_image: Media | None = None
    """Picture to start from."""
    strength: float | None = None
    """How far to depart from init_image: 0 keeps it, 1 ignores it."""
    mask: Media | None = None
    """Where to repaint init_image: white is repainted."""
    controls: tuple[Control, ...] = ()
    loras: tuple[Lora, ...] = ()
    resource_profile: ResourceProfile = ResourceProfile.UNSPECIFIED
    safety_mode: SafetyMode = SafetyMode.UNSPECIFIED
    format: ImageFormat = ImageFormat.UNSPECIFIED
    preview_interval: int | None = None
    """Send a small preview every so many steps; 0 sends none."""
    upscale: Upscale | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTask:
    """One sound made from words."""

    prompt: str
    negative_prompt: str = ""
    duration_seconds: float | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    sample_rate: int | None = None
    """In hertz."""
    channels: int | None = None
    candidates: int | None = None
    """Make so many and return the best."""
    seamless_loop: bool = False
    loudness_lufs: float | None = None
    """Integrated loudness to reach (EBU R128)."""
    model: str = ""
    format: AudioFormat = AudioFormat.UNSPECIFIED


class RequestKeywords(TypedDict, total=False):
    """How to run a task."""

    engine: str
    options: Mapping[str, object]
    strict: bool
    request_id: str
    timeout_seconds: float


class ImageKeywords(TypedDict, total=False):
    """The fields of an ImageTask beside its prompt."""

    negative_prompt: str
    style: str
    model: str
    width: int | None
    height: int | None
    steps: int | None
    guidance: float | None
    seed: int | None
    scheduler: str
    num_images: int | None
    init_image: Media | None
    strength: float | None
    mask: Media | None
    controls: tuple[Control, ...]
    loras: tuple[Lora, ...]
    resource_profile: ResourceProfile
    safety_mode: SafetyMode
    format: ImageFormat
    preview_interval: int | None
    upscale: Upscale | None


class Keywords(ImageKeywords, RequestKeywords, total=False):
    """What may be said beside the task: how to run it, and the fields of a picture."""
