"""Capabilities and load of engines: frozen dataclasses without protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

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
    RoutingPolicy,
    SafetyMode,
)

MAX_SEED = 2**63 - 1
"""Largest seed of the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerRange:
    """Integers from `min` to `max` that are multiples of `multiple_of`."""

    min: int
    max: int
    default: int
    multiple_of: int
    allowed_values: tuple[int, ...] = ()
    """Where not empty, only these are allowed, in ascending order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRange:
    """Floats from `min` to `max`."""

    min: float
    max: float
    default: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A set of weights that an engine can use."""

    name: str
    family: str
    digest: str
    fallback_for: str = ""
    """Name of the configured model that could not be loaded, which it stands in for; empty otherwise."""
    fallback_reason: str = ""
    """Why that model could not be loaded."""
    license: str = ""
    """Licence of its weights, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCapabilities:
    """Features and limits of an engine for image tasks."""

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
    """Resource profiles that the caller may choose."""
    safety_modes: tuple[SafetyMode, ...] = ()
    """Safety modes that the caller may choose."""
    upscalers: tuple[str, ...] = ()
    """Upscalers, the default first."""
    upscale_only: bool = False
    """Whether it only upscales `init_image`."""
    keeps_init_size: bool = False
    """Whether `init_image` decides width and height where the task gives neither."""
    default_preview_interval: int = 0
    """Steps between two previews where the task does not say; 0 sends none."""
    min_seed: int = 0
    """Smallest seed that it takes."""
    max_seed: int = MAX_SEED
    """Largest seed that it takes; larger ones are reduced, and the receipt says so."""
    ignores_strength: bool = False
    """Whether `strength` has no effect, because the model follows the prompt alone."""
    inpainting_ignores_strength: bool = False
    """Whether `strength` has no effect with a mask."""
    inpainting_ignores_negative_prompt: bool = False
    """Whether `negative_prompt` has no effect with a mask."""
    strength_skips_steps: bool = False
    """Whether `strength` decides how many of the steps run: at least one, unless it is 0."""
    clip_skip: IntegerRange | None = None
    """Layer of the text encoders, counted from the end; None where it cannot be chosen."""
    embeddings: tuple[str, ...] = ()
    """Textual inversion embeddings that a task can name."""
    vocabulary: frozenset[str] = frozenset()
    """The words that the model follows, in lower case; empty where they are not known."""
    typed_names: bool = False
    """Whether names of LoRAs and embeddings that are typed in prompts are read."""
    service_reads_embeddings: bool = False
    """Whether the service behind the engine reads `embedding:NAME` in prompts itself."""
    lora_embeddings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Embeddings that the files of LoRAs bring along, by LoRA."""
    lora_trigger_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that call up what a LoRA was trained on, by LoRA, where its file has them."""
    native_side: IntegerRange | None = None
    """Width and height that requests and init images are clamped to, as the model fails at others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCapabilities:
    """Features and limits of an engine for audio tasks."""

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
    output_sample_rates: tuple[int, ...] = ()
    """In hertz: what a task can ask for, ascending; those that the engine does not make are resampled."""
    output_channels: tuple[int, ...] = ()
    """What a task can ask for, ascending; what the engine does not make is mixed."""
    server_features: frozenset[AudioFeature] = frozenset()
    """Features that the server adds to the engine's own."""
    vocabulary: frozenset[str] = frozenset()
    """The words that the engine follows, in lower case; empty where they are not known."""
    prompt_decides_duration: bool = False
    """Whether the prompt decides how long the audio is; a duration then has no effect."""
    audible_seconds: float | None = None
    """The longest audio that the model makes, where that is less than the maximum: silence follows it."""
    max_init_audio_seconds: float | None = None
    """The longest init_audio; None without the features AUDIO_TO_AUDIO and CONTINUATION."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of an engine."""

    currency: str
    """ISO 4217 code."""
    amount: float
    unit: PriceUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of an engine."""

    queued: int
    running: int
    concurrency: int
    backlog_seconds: float | None
    """Estimated time to the end of all running and queued generations; None while unknown."""
    service_seconds: float | None
    """Median time of the newest generations, whatever their size; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePause:
    """That an engine begins nothing, until it is resumed."""

    reason: str
    """May be empty."""
    pause_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A configured engine: its capabilities, state and load."""

    name: str
    type: str
    description: str
    state: EngineState
    state_message: str
    image: ImageCapabilities | None
    """None when it does not support image tasks."""
    audio: AudioCapabilities | None
    """None when it does not support audio tasks."""
    options_schema: Mapping[str, object]
    """JSON Schema of the request's `options`."""
    cancel_support: CancelSupport
    reproducibility: Reproducibility
    price: Price | None
    load: Load
    fallbacks: tuple[str, ...]
    versions: Mapping[str, str]
    """Versions of the packages, models and services that take part in its work, by name."""
    placeholder: bool = False
    """Whether it stands in for a model: the server selects it only by its name, or if there is nothing else."""
    pause: EnginePause | None = None
    """Set while it begins nothing of what waits for it."""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """What runs each component of its model, by component; empty where there is no choice."""
    runtime_fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Why components are run by another runtime than is configured, for those that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The engines of a server, and its limits."""

    engines: tuple[Engine, ...]
    default_engine: str
    version: str
    max_inline_bytes: int
    """Maximum size of an inline output in bytes."""
    max_upload_bytes: int
    """Maximum size of an uploaded artifact in bytes."""
    routing: RoutingPolicy = RoutingPolicy.UNSPECIFIED
    """How an engine is selected for a task that names none."""
