"""The tasks of engines, with every parameter decided: defaults are applied and seeds are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.media import Pixels, Samples

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
"""A value that JSON can write."""


class ControlType(Enum):
    """The type of a control image."""

    CANNY = "canny"
    DEPTH = "depth"
    POSE = "pose"
    SEGMENTATION = "segmentation"


class Fit(Enum):
    """How images of another aspect ratio are fitted to a task's size."""

    COVER = "cover"
    """Their middle fills it; what does not fit is cut off."""
    CONTAIN = "contain"
    """All of them is inside; the rest continues their edges, and is black around control maps."""
    STRETCH = "stretch"
    """They are distorted."""


class ResourceProfile(Enum):
    """The trade-off between time and memory."""

    SPEED = "speed"
    BALANCED = "balanced"
    MEMORY = "memory"


class SafetyMode(Enum):
    """How to handle images that a safety check flags."""

    BLOCK = "block"
    FLAG = "flag"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control image, which guides the composition."""

    type: ControlType
    """Type of the image."""
    image: Pixels
    """The control map, or with `preprocess` the photo to compute it from."""
    preprocess: bool = False
    """Whether the map is computed from the image."""
    strength: float = 1.0
    """Strength of its influence, 0 to 2."""
    start: float = 0.0
    """Fraction of the denoising from which it is active."""
    end: float = 1.0
    """Fraction of the denoising until which it is active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA with its weight."""

    name: str
    """One of the engine's LoRAs."""
    weight: float = 1.0
    """Factor of its effect, -4 to 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale:
    """Upscaling of the generated image."""

    factor: float
    """Factor of width and height."""
    model: str = ""
    """One of the engine's upscalers; empty for its default."""

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upscaled image, in whole pixels."""
        return round(width * self.factor), round(height * self.factor)


def count_steps_left(steps: int, strength: float) -> int:
    """How many of the steps run from an init image: at least one, and none where a `strength` of 0 keeps the image.

    Source: diffusers 0.42.1, StableDiffusionXLImg2ImgPipeline.get_timesteps.
    """
    return max(min(int(steps * strength), steps), 1) if strength else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask:
    """A task for one or more images."""

    prompt: str
    """Description of the image."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    seeds: tuple[int, ...]
    """One seed for each image, 0 to 2**63 - 1; its length is the number of images."""
    steps: int | None = None
    """Denoising steps; None on engines that have none."""
    guidance: float | None = None
    """Classifier-free guidance scale; None on engines that have none."""
    negative_prompt: str = ""
    """What the image should not show."""
    model: str = ""
    """One of the engine's models; empty where it has only one."""
    scheduler: str = ""
    """One of the engine's schedulers; empty on engines that have none."""
    init_image: Pixels | None = None
    """Initial image of image-to-image and inpainting."""
    strength: float = 0.75
    """How much `init_image` changes: 0 keeps it, 1 ignores it."""
    mask: Pixels | None = None
    """Where to inpaint `init_image`: 255 is inpainted, 0 is kept."""
    controls: tuple[Control, ...] = ()
    """Control images."""
    loras: tuple[Lora, ...] = ()
    """LoRAs, in the order in which they are applied."""
    embeddings: tuple[str, ...] = ()
    """Textual inversion embeddings: what stands for them where a prompt has their names; see `prompt_names`."""
    fit: Fit = Fit.COVER
    """How its images were fitted to width and height, but for rounding; the server does that before the engine runs."""
    upscale: Upscale | None = None
    """Upscaling afterwards; None for none."""
    resource_profile: ResourceProfile | None = None
    """The caller's choice; None for the configured one."""
    safety_mode: SafetyMode | None = None
    """The caller's choice; None for the configured one."""
    preview_interval: int = 0
    """A preview every so many steps; 0 for none."""
    clip_skip: int | None = None
    """Layer of the text encoders, counted from the end: 1 is the last; None on engines that have no choice."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Engine-specific options, by the engine's options schema."""
    batch: bool = False
    """Whether others of its caller go first, where an engine has a queue of several callers."""
    resume: str = ""
    """Handle of a job that an earlier attempt has dispatched; empty when there is none."""

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height of each output in pixels, after upscaling."""
        size = (self.width, self.height)
        return size if self.upscale is None else self.upscale.size_of(*size)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTask:
    """A task for one audio clip."""

    prompt: str
    """Description of the audio."""
    duration_seconds: float
    """Exact length of the audio."""
    seed: int
    """Seed, 0 to 2**63 - 1."""
    sample_rate: int
    """Hertz."""
    channels: int
    """Number of channels: 1 is mono, 2 is stereo."""
    init_audio: Samples | None = None
    """Initial audio of audio-to-audio, in the task's sample rate and channels, and at most as long as the duration."""
    strength: float = 0.75
    """How much `init_audio` changes: 0 keeps it, 1 ignores it."""
    continuation: bool = False
    """Whether the clip begins with `init_audio` and goes on after it; its strength has no effect then."""
    steps: int | None = None
    """Denoising steps; None on engines that have none."""
    guidance: float | None = None
    """Classifier-free guidance scale; None on engines that have none."""
    negative_prompt: str = ""
    """What should not be heard."""
    model: str = ""
    """One of the engine's models; empty where it has only one."""
    candidates: int = 1
    """Number of candidates to generate; the best one is returned."""
    seamless_loop: bool = False
    """Whether the audio can be repeated without a seam."""
    loudness_lufs: float | None = None
    """Integrated loudness to reach (EBU R128); None leaves it."""
    reuse: bool = False
    """Whether a clip that was made before, with another seed, will do: nobody has asked for this one."""
    preview_interval: int = 0
    """Steps between two previews of the waveform; 0 sends none."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Engine-specific options, by the engine's options schema."""
    batch: bool = False
    """Whether others of its caller go first, where an engine has a queue of several callers."""
    resume: str = ""
    """Handle of a job that an earlier attempt has dispatched; empty when there is none."""


Task = ImageTask | AudioTask
