"""The capabilities of an engine: features and limits. The conformance suite tests every claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from atelier_engines.task import JSON, ControlType, ResourceProfile, SafetyMode


MAX_SEED = 2**63 - 1
"""Largest seed of the contract."""

TaskKind = Literal["image", "audio"]


class ImageFeature(Enum):
    """An image feature beyond text-to-image."""

    IMAGE_TO_IMAGE = "image_to_image"
    INPAINTING = "inpainting"
    CONTROLNET = "controlnet"
    CONTROL_PREPROCESSING = "control_preprocessing"
    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SCHEDULER = "scheduler"
    LORA = "lora"
    EMBEDDING = "embedding"
    UPSCALING = "upscaling"
    PREVIEW = "preview"


class AudioFeature(Enum):
    """An audio feature beyond text-to-audio."""

    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SEAMLESS_LOOP = "seamless_loop"
    LOUDNESS = "loudness"
    CANDIDATES = "candidates"
    SPEECH = "speech"
    """The prompt is the words to say."""
    AUDIO_TO_AUDIO = "audio_to_audio"
    PREVIEW = "preview"
    """The waveform while it is made."""
    CONTINUATION = "continuation"
    """Goes on after `init_audio`."""


class CancelSupport(Enum):
    """What cancelling a task does."""

    STEP = "step"
    """Stops the work within one step."""
    REMOTE = "remote"
    """Cancels the job at the vendor, who may still charge for it."""
    NONE = "none"
    """The work runs to its end, and its result is dropped."""


class Reproducibility(Enum):
    """How exactly the same task repeats."""

    BIT_EXACT = "bit_exact"
    SAME_ENGINE = "same_engine"
    BEST_EFFORT = "best_effort"


class PriceUnit(Enum):
    """The unit of a price."""

    IMAGE = "image"
    MEGAPIXEL = "megapixel"
    SECOND = "second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a task."""

    amount: float
    """Price of one unit."""
    unit: PriceUnit
    """The unit."""
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
    """Its name in tasks."""
    family: str = ""
    """Model family: sdxl, sd15 …"""
    digest: str = ""
    """SHA-256 over its weights, in hexadecimal, where known."""
    fallback_for: str = ""
    """Name of the configured model that could not be loaded, which it stands in for; empty otherwise."""
    fallback_reason: str = ""
    """Why that model could not be loaded."""
    license: str = ""
    """Licence of its weights, as an SPDX identifier or in words; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCapabilities:
    """What an engine supports for images."""

    width: IntegerRange
    """Range in pixels."""
    height: IntegerRange
    """Range in pixels."""
    max_pixels: int
    """Maximum number of pixels of an image."""
    features: frozenset[ImageFeature] = frozenset()
    """Features beyond text-to-image."""
    steps: IntegerRange | None = None
    """Denoising steps; None where there are none."""
    guidance: NumberRange | None = None
    """Guidance scale; None where there is none."""
    clip_skip: IntegerRange | None = None
    """Layer of the text encoders, counted from the end; None where it cannot be chosen."""
    max_images: int = 1
    """Maximum number of images in one task."""
    max_prompt_length: int = 2000
    """Maximum number of characters."""
    schedulers: tuple[str, ...] = ()
    """Names of the schedulers, the default first."""
    control_types: tuple[ControlType, ...] = ()
    """Types of control images."""
    max_controls: int = 0
    """Maximum number of control images in one task."""
    models: tuple[Model, ...] = ()
    """The models, the default first."""
    vocabulary: frozenset[str] = frozenset()
    """The words that the model follows, in lower case; empty where they are not known."""
    loras: tuple[str, ...] = ()
    """Names of the LoRAs."""
    max_loras: int = 0
    """Maximum number of LoRAs in one task."""
    embeddings: tuple[str, ...] = ()
    """Names of the textual inversion embeddings."""
    lora_embeddings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the embeddings that LoRAs bring along, by LoRA; they can be used while it is active."""
    lora_trigger_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that call up what a LoRA was trained on, by LoRA, where its file has them."""
    native_side: IntegerRange | None = None
    """Width and height that the model was trained for, where it fails at others; the server clamps to them."""
    resource_profiles: tuple[ResourceProfile, ...] = ()
    """Trade-offs between time and memory that the caller may choose."""
    safety_modes: tuple[SafetyMode, ...] = ()
    """Ways to handle flagged images that the caller may choose."""
    default_preview_interval: int = 0
    """Steps between previews where the caller does not say; 0 for none."""
    upscalers: tuple[str, ...] = ()
    """Names of the upscalers, the default first."""
    typed_names: bool = False
    """Whether names of LoRAs and embeddings that are typed in prompts are read, and not encoded as words."""
    service_reads_embeddings: bool = False
    """Whether the service behind the engine reads `embedding:NAME` in prompts itself; nobody here knows its names."""
    keeps_init_size: bool = False
    """Whether init_image decides width and height where the caller sets neither."""
    min_seed: int = 0
    """Smallest seed that it takes."""
    max_seed: int = MAX_SEED
    """Largest seed that it takes."""
    ignores_strength: bool = False
    """Whether `strength` has no effect, because the model takes no such number."""
    inpainting_ignores_strength: bool = False
    """Whether `strength` has no effect with a mask; implied by `ignores_strength`."""
    inpainting_ignores_negative_prompt: bool = False
    """Whether `negative_prompt` has no effect with a mask."""
    strength_skips_steps: bool = False
    """Whether `strength` decides how many of the steps run; see task.count_steps_left."""
    upscale_only: bool = False
    """Whether it only upscales init_image; prompt, seed and strength then have no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCapabilities:
    """What an engine supports for audio."""

    duration_seconds: NumberRange
    """Minimum, maximum and default length."""
    audible_seconds: float | None = None
    """The longest audio that the model makes, where that is less than the maximum: silence follows it."""
    sample_rates: tuple[int, ...]
    """Hertz, the default first."""
    channels: tuple[int, ...]
    """Channel counts, the default first."""
    features: frozenset[AudioFeature] = frozenset()
    """Features beyond text-to-audio."""
    steps: IntegerRange | None = None
    """Denoising steps; None where there are none."""
    guidance: NumberRange | None = None
    """Guidance scale; None where there is none."""
    max_candidates: int = 1
    """Maximum number of candidates."""
    max_prompt_length: int = 2000
    """Maximum number of characters."""
    models: tuple[Model, ...] = ()
    """The models, the default first."""
    vocabulary: frozenset[str] = frozenset()
    """The words that the engine follows, in lower case; empty where they are not known."""
    prompt_decides_duration: bool = False
    """Whether the prompt decides how long the audio is, as in speech; `duration_seconds` then has no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The features and limits of an engine."""

    description: str
    """One line of text for people."""
    image: ImageCapabilities | None = None
    """None when it does not support image tasks."""
    audio: AudioCapabilities | None = None
    """None when it does not support audio tasks."""
    concurrency: int = 1
    """Number of tasks that it runs at once."""
    cancel: CancelSupport = CancelSupport.STEP
    """What cancelling a task does."""
    resumable: bool = False
    """Whether a run can be closed with its job kept at the service, for another run to resume it; see `closing`."""
    reproducibility: Reproducibility = Reproducibility.BEST_EFFORT
    """How exactly the same task repeats."""
    price: Price | None = None
    """The price; None when it is free, or not known."""
    billed: bool = False
    """Whether a service bills its tasks, even where `price` is not known."""
    options_schema: Mapping[str, JSON] = field(
        default_factory=lambda: {"type": "object", "additionalProperties": False}
    )
    """JSON Schema of the task's options."""
    placeholder: bool = False
    """Whether it stands in for a model, and takes only tasks that name it while there are other engines."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of packages, and digests of weights beside those of `models`, on which the result depends."""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """What runs each component of its model, by component; empty where there is no choice."""
    runtime_fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Why components are run by another runtime than is configured, for those that are."""

    def makes(self, kind: TaskKind) -> bool:
        """Whether it supports tasks of that kind."""
        return (self.image if kind == "image" else self.audio) is not None

    @property
    def only_speaks(self) -> bool:
        """Whether it would say a description instead of making what is described."""
        return self.image is None and (
            self.audio is not None and AudioFeature.SPEECH in self.audio.features
        )

    @property
    def may_cost(self) -> bool:
        """Whether a task may cost money."""
        return self.billed or self.price is not None
