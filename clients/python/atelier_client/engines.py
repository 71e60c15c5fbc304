"""What engines can do and how they fare: plain frozen data, no protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier_client.enums import (
    AudioFeature,
    AudioFormat,
    CancelSupport,
    ControlType,
    EngineState,
    ImageFeature,
    ImageFormat,
    PriceUnit,
    Reproducibility,
    ResourceProfile,
    SafetyMode,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerRange:
    """Whole numbers from `min` to `max`, in steps of `multiple_of`."""

    min: int
    max: int
    default: int
    multiple_of: int
    allowed_values: tuple[int, ...] = ()
    """Where not empty, only these are allowed, in ascending order."""


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
    family: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCapabilities:
    """What an engine can do with pictures."""

    features: frozenset[ImageFeature]
    width: IntegerRange | None
    height: IntegerRange | None
    max_pixels: int
    steps: IntegerRange | None
    guidance: NumberRange | None
    max_images: int
    max_prompt_length: int
    schedulers: tuple[str, ...]
    """The default first."""
    control_types: tuple[ControlType, ...]
    max_controls: int
    models: tuple[Model, ...]
    """The default first."""
    loras: tuple[str, ...]
    max_loras: int
    styles: tuple[str, ...]
    formats: tuple[ImageFormat, ...]
    resource_profiles: tuple[ResourceProfile, ...] = ()
    """Ways of spending time or memory that the caller may choose."""
    safety_modes: tuple[SafetyMode, ...] = ()
    """What the caller may choose to be done about flagged pictures."""
    upscalers: tuple[str, ...] = ()
    """Ways of enlarging pictures, the default first."""
    upscale_only: bool = False
    """Whether it makes no images of its own, but only upscales `init_image`."""
    keeps_init_size: bool = False
    """Whether `init_image` decides width and height where the task gives neither."""
    default_preview_interval: int = 0
    """Steps between two previews where the task does not say; 0 sends none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCapabilities:
    """What an engine can do with sound."""

    features: frozenset[AudioFeature]
    duration_seconds: NumberRange | None
    steps: IntegerRange | None
    guidance: NumberRange | None
    sample_rates: tuple[int, ...]
    """In hertz, the default first."""
    channels: tuple[int, ...]
    """The default first."""
    max_candidates: int
    max_prompt_length: int
    models: tuple[Model, ...]
    """The default first."""
    formats: tuple[AudioFormat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an engine charges."""

    currency: str
    """ISO 4217 code."""
    amount: float
    unit: PriceUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy an engine is."""

    queued: int
    running: int
    concurrency: int
    backlog_seconds: float
    service_seconds: float | None
    """Measured time of one generation; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A configured thing that can make pictures or sounds."""

    name: str
    type: str
    description: str
    state: EngineState
    state_message: str
    image: ImageCapabilities | None
    """None when it makes no pictures."""
    audio: AudioCapabilities | None
    """None when it makes no sounds."""
    options_schema: Mapping[str, object]
    """JSON Schema of the request's `options`."""
    cancel_support: CancelSupport
    reproducibility: Reproducibility
    price: Price | None
    load: Load
    fallbacks: tuple[str, ...]
    versions: Mapping[str, str]
    """Of the packages, models and services that take part in its work, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the service can do."""

    engines: tuple[Engine, ...]
    default_engine: str
    version: str
    max_inline_bytes: int
    """Largest output that is sent inline, in bytes."""
    max_upload_bytes: int
    """Largest artifact that can be uploaded, in bytes."""
