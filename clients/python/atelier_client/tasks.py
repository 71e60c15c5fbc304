"""Tasks. A field that is None takes the default of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from atelier_client.enums import (
    AudioFormat,
    ControlType,
    FitMode,
    ImageFormat,
    LoraRole,
    Priority,
    ResourceProfile,
    SafetyMode,
)
from atelier_client.media import Media
from atelier_client.representation import ShortRepr

RANDOM_SEED = -1
"""A seed that stands for none, as in other tools: the server draws one."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Control(ShortRepr):
    """One ControlNet image."""

    type: ControlType
    image: Media
    preprocess: bool = False
    """Compute the control map from the image; else the image is the map."""
    strength: float | None = None
    """ControlNet conditioning scale, 0 to 2."""
    start: float | None = None
    """Fraction of the steps at which it starts, 0 to 1."""
    end: float | None = None
    """Fraction of the steps at which it ends, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """One LoRA (low-rank adaptation) of a model."""

    name: str
    weight: float | None = None
    """Weight, -4 to 4."""
    role: LoraRole = LoraRole.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A textual inversion embedding: its vectors stand where a prompt has its name, else at the end of the prompt."""

    name: str
    negative: bool = False
    """Whether it belongs to the negative prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale:
    """Upscaling after the generation."""

    factor: float
    """Factor of width and height, above 1 to 8."""
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outpaint:
    """Pixels by which the canvas is larger than the init image, on each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ImageTask(ShortRepr):
    """Generates images: text-to-image, image-to-image, inpainting, ControlNet."""

    prompt: str
    negative_prompt: str = ""
    style: str = ""
    model: str = ""
    width: int | None = None
    """Width in pixels, a multiple of the engine's grid."""
    height: int | None = None
    """Height in pixels, a multiple of the engine's grid."""
    steps: int | None = None
    guidance: float | None = None
    """Classifier-free guidance scale, 0 to 100."""
    seed: int | None = None
    """Seed of the first image; image n uses seed + n. Random when None or -1."""
    scheduler: str = ""
    num_images: int | None = None
    init_image: Media | None = None
    """Input of image-to-image and inpainting."""
    strength: float | None = None
    """Denoising strength: 0 keeps init_image, 1 ignores it."""
    mask: Media | None = None
    """Inpainting mask: white is replaced, black is kept."""
    controls: tuple[Control, ...] = ()
    loras: tuple[Lora, ...] = ()
    fit: FitMode = FitMode.UNSPECIFIED
    """How init image, mask and controls of another aspect ratio are fitted: COVER unless it says otherwise."""
    resource_profile: ResourceProfile = ResourceProfile.UNSPECIFIED
    safety_mode: SafetyMode = SafetyMode.UNSPECIFIED
    format: ImageFormat = ImageFormat.UNSPECIFIED
    preview_interval: int | None = None
    """Steps between two previews; 0 sends none."""
    upscale: Upscale | None = None
    embeddings: tuple[Embedding, ...] = ()
    """Textual inversion embeddings, beside those that the prompts name."""
    clip_skip: int | None = None
    """Layer of the text encoders whose output is used, counted from the end: 1 is the last."""
    aspect_ratio: str = ""
    """Width to height, such as 16:9, in the engine's usual number of pixels; or the side that is not given."""
    padding_mask_crop: int | None = None
    """Inpaint the mask with so many pixels around it alone, drawn in width and height, and put back into init_image."""
    outpaint: Outpaint | None = None
    """Extend the canvas of init_image, and inpaint what is new."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AudioTask(ShortRepr):
    """Generates one audio output from text, or from text and audio."""

    prompt: str
    negative_prompt: str = ""
    duration_seconds: float | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    sample_rate: int | None = None
    """Sample rate in hertz."""
    channels: int | None = None
    candidates: int | None = None
    """Number of candidates to generate; the best is returned."""
    seamless_loop: bool = False
    loudness_lufs: float | None = None
    """Target of the integrated loudness (EBU R128)."""
    model: str = ""
    format: AudioFormat = AudioFormat.UNSPECIFIED
    high_pass_hz: float | None = None
    """Cut-off frequency of a high-pass filter."""
    fade_in_seconds: float | None = None
    """Fade from silence at the beginning."""
    fade_out_seconds: float | None = None
    """Fade into silence at the end."""
    init_audio: Media | None = None
    """Input of audio-to-audio and continuation: a WAV, FLAC, Ogg, Opus or MP3 file."""
    strength: float | None = None
    """Denoising strength: 0 keeps init_audio, 1 ignores it."""
    preview_interval: int | None = None
    """Steps between two previews of the waveform; 0 for none."""
    continuation: bool = False
    """Begin with init_audio, and go on after it; its strength has no effect then."""


Task: TypeAlias = str | ImageTask | AudioTask
"""What one generation is of; text is the prompt of an ImageTask."""
Batch: TypeAlias = Sequence[Task]
"""Several tasks."""


class RequestKeywords(TypedDict, total=False):
    """Keywords that say how to run a task."""

    engine: str
    options: Mapping[str, object]
    strict: bool
    strict_except: Sequence[str]
    request_id: str
    timeout_seconds: float
    priority: Priority


class ImageKeywords(TypedDict, total=False):
    """Keywords for the fields of an ImageTask beside its prompt."""

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
    fit: FitMode
    resource_profile: ResourceProfile
    safety_mode: SafetyMode
    format: ImageFormat
    preview_interval: int | None
    upscale: Upscale | None
    embeddings: tuple[Embedding, ...]
    clip_skip: int | None
    aspect_ratio: str
    padding_mask_crop: int | None
    outpaint: Outpaint | None


class Keywords(ImageKeywords, RequestKeywords, total=False):
    """Keywords beside a task: how to run it, and with a prompt the fields of an ImageTask."""
