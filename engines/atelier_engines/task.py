"""What an engine is asked to make. Everything is decided: nothing is left to default or draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_engines.media import Pixels

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
"""A value that JSON can write."""


class ControlType(Enum):
    """What a control picture means."""

    CANNY = "canny"
    DEPTH = "depth"
    POSE = "pose"
    SEGMENTATION = "segmentation"


class ResourceProfile(Enum):
    """What to spend: time or memory."""

    SPEED = "speed"
    BALANCED = "balanced"
    MEMORY = "memory"


class SafetyMode(Enum):
    """What to do about pictures that a safety check flags."""

    BLOCK = "block"
    FLAG = "flag"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One picture that steers the composition."""

    type: ControlType
    """What the picture means."""
    image: Pixels
    """The map, or with `preprocess` the photo to compute it from."""
    preprocess: bool = False
    """Whether the map is still to be computed."""
    strength: float = 1.0
    """Weight of its influence, 0 to 2."""
    start: float = 0.0
    """Fraction of the denoising from which it is active."""
    end: float = 1.0
    """Fraction of the denoising until which it is active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """One low-rank adaptation, with its final weight."""

    name: str
    """A name the engine lists."""
    weight: float = 1.0
    """-4 to 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale:
    """A second pass that enlarges the picture."""

    factor: float
    """How many times wider and higher."""
    model: str = ""
    """One of the engine's upscalers; empty for its default."""

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the enlarged picture, in whole pixels."""
        return round(width * self.factor), round(height * self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTask:
    """One or more pictures."""

    prompt: str
    """What the picture shows."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    seeds: tuple[int, ...]
    """One seed a picture, 0 to 2**63 - 1; its length is the number of pictures."""
    steps: int | None = None
    """Denoising steps; None on engines that have none."""
    guidance: float | None = None
    """Classifier-free guidance scale; None on engines that have none."""
    negative_prompt: str = ""
    """What the picture should not show."""
    model: str = ""
    """One of the engine's models; empty where it has but one."""
    scheduler: str = ""
    """One of the engine's samplers; empty on engines that have none."""
    init_image: Pixels | None = None
    """Picture to start from."""
    strength: float = 0.75
    """How far to depart from `init_image`: 0 keeps it, 1 ignores it."""
    mask: Pixels | None = None
    """Where to repaint `init_image`: 255 is repainted, 0 is kept."""
    controls: tuple[Control, ...] = ()
    """Pictures that steer the composition."""
    loras: tuple[Lora, ...] = ()
    """In the order in which they are applied."""
    upscale: Upscale | None = None
    """Enlargement afterwards."""
    resource_profile: ResourceProfile | None = None
    """None for the engine's configured choice."""
    safety_mode: SafetyMode | None = None
    """None for the engine's configured choice."""
    preview_interval: int = 0
    """A preview every so many steps; 0 for none."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Checked against the engine's options schema."""
    resume: str = ""
    """Handle of work that an earlier attempt had dispatched; empty when there was none."""

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height of each picture that comes out, in pixels: enlarged, where it is to be."""
        size = (self.width, self.height)
        return size if self.upscale is None else self.upscale.size_of(*size)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTask:
    """One sound."""

    prompt: str
    """What is heard."""
    duration_seconds: float
    """Exact length of the sound."""
    seed: int
    """0 to 2**63 - 1."""
    sample_rate: int
    """Hertz."""
    channels: int
    """1 is mono, 2 is stereo."""
    steps: int | None = None
    """Denoising steps; None on engines that have none."""
    guidance: float | None = None
    """Classifier-free guidance scale; None on engines that have none."""
    negative_prompt: str = ""
    """What should not be heard."""
    model: str = ""
    """One of the engine's models; empty where it has but one."""
    candidates: int = 1
    """Make so many, return the best."""
    seamless_loop: bool = False
    """Whether the end runs into the beginning."""
    loudness_lufs: float | None = None
    """Integrated loudness to reach (EBU R128); None leaves it."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Checked against the engine's options schema."""
    resume: str = ""
    """Handle of work that an earlier attempt had dispatched; empty when there was none."""


Task = ImageTask | AudioTask
