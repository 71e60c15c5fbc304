"""What an engine can do, and its limits. The contract suite holds every engine to every word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.task import JSON, ControlType, ResourceProfile, SafetyMode


class ImageFeature(Enum):
    """What an engine can do with pictures beyond words to picture."""

    IMAGE_TO_IMAGE = "image_to_image"
    INPAINTING = "inpainting"
    CONTROLNET = "controlnet"
    CONTROL_PREPROCESSING = "control_preprocessing"
    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SCHEDULER = "scheduler"
    LORA = "lora"
    UPSCALING = "upscaling"
    PREVIEW = "preview"


class AudioFeature(Enum):
    """What an engine can do with sound beyond words to sound."""

    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SEAMLESS_LOOP = "seamless_loop"
    LOUDNESS = "loudness"
    CANDIDATES = "candidates"


class CancelSupport(Enum):
    """How work ends when it is cancelled."""

    STEP = "step"
    """Within one step, here."""
    REMOTE = "remote"
    """The vendor is told; it may still bill."""
    NONE = "none"
    """Runs to its end; the result is dropped."""


class Reproducibility(Enum):
    """How well the same recipe repeats."""

    BIT_EXACT = "bit_exact"
    SAME_ENGINE = "same_engine"
    BEST_EFFORT = "best_effort"


class PriceUnit(Enum):
    """What one unit of a price is."""

    IMAGE = "image"
    MEGAPIXEL = "megapixel"
    SECOND = "second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an engine charges."""

    amount: float
    """For one unit."""
    unit: PriceUnit
    """What one unit is."""
    currency: str = "USD"
    """ISO 4217 code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerRange:
    """Whole numbers from `min` to `max` that are multiples of `multiple_of`."""

    min: int
    max: int
    default: int
    multiple_of: int = 1
    allowed_values: tuple[int, ...] = ()
    """Where not empty, only these, ascending; the first is `min` and the last is `max`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRange:
    """Numbers from `min` to `max`."""

    min: float
    max: float
    default: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A set of weights that an engine can use."""

    name: str
    """Name to ask for it by."""
    family: str = ""
    """What it is: sdxl, sd15 …"""
    digest: str = ""
    """SHA-256 over its weights, in hexadecimal, where known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCapabilities:
    """What an engine can do with pictures."""

    width: IntegerRange
    """Pixels."""
    height: IntegerRange
    """Pixels."""
    max_pixels: int
    """Most pixels in one picture."""
    features: frozenset[ImageFeature] = frozenset()
    """Everything beyond words to picture."""
    steps: IntegerRange | None = None
    """Denoising steps; None where there are none."""
    guidance: NumberRange | None = None
    """Guidance scale; None where there is none."""
    max_images: int = 1
    """Most pictures in one task."""
    max_prompt_length: int = 2000
    """Characters."""
    schedulers: tuple[str, ...] = ()
    """Samplers, the default first."""
    control_types: tuple[ControlType, ...] = ()
    """Kinds of control pictures."""
    max_controls: int = 0
    """Most control pictures in one task."""
    models: tuple[Model, ...] = ()
    """Models, the default first."""
    loras: tuple[str, ...] = ()
    """LoRAs that can be named."""
    max_loras: int = 0
    """Most LoRAs in one task."""
    resource_profiles: tuple[ResourceProfile, ...] = ()
    """Ways of spending time or memory that the caller may choose."""
    safety_modes: tuple[SafetyMode, ...] = ()
    """What the caller may choose to be done about flagged pictures."""
    default_preview_interval: int = 0
    """Steps between previews when the caller says nothing; 0 for none."""
    upscalers: tuple[str, ...] = ()
    """Ways of enlarging pictures, the default first."""
    keeps_init_size: bool = False
    """Whether a picture to start from decides width and height where the caller says neither."""
    upscale_only: bool = False
    """Whether it makes no pictures of its own, but only enlarges init_image.

    Prompt, seed and strength have no effect then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCapabilities:
    """What an engine can do with sound."""

    duration_seconds: NumberRange
    """Shortest, longest and default length."""
    sample_rates: tuple[int, ...]
    """Hertz, the default first."""
    channels: tuple[int, ...]
    """Numbers of channels, the default first."""
    features: frozenset[AudioFeature] = frozenset()
    """Everything beyond words to sound."""
    steps: IntegerRange | None = None
    """Denoising steps; None where there are none."""
    guidance: NumberRange | None = None
    """Guidance scale; None where there is none."""
    max_candidates: int = 1
    """Most candidates to choose from."""
    max_prompt_length: int = 2000
    """Characters."""
    models: tuple[Model, ...] = ()
    """Models, the default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do, and its limits."""

    description: str
    """One line for people."""
    image: ImageCapabilities | None = None
    """None when it makes no pictures."""
    audio: AudioCapabilities | None = None
    """None when it makes no sound."""
    concurrency: int = 1
    """Tasks it works on at once."""
    cancel: CancelSupport = CancelSupport.STEP
    """How work ends when it is cancelled."""
    reproducibility: Reproducibility = Reproducibility.BEST_EFFORT
    """How well the same recipe repeats."""
    price: Price | None = None
    """None when it is free."""
    options_schema: Mapping[str, JSON] = field(
        default_factory=lambda: {"type": "object", "additionalProperties": False}
    )
    """JSON Schema of the task's options."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages, and digests of the weights, that shape the result beside a model's own."""
