"""What a diffusion engine knows of its model, and the limits that hold for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atelier_engines.capabilities import IntegerRange, Model, Reproducibility

MIN_SIDE = 64
"""Fewest pixels along a side of an image."""
GRID = 8
"""Width and height of images are multiples of this, whatever the model."""
MAX_GUIDANCE = 30.0
"""Highest guidance where neither the configuration nor a preset says anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Facts about a model that its engine's capabilities are built from."""

    model: Model
    """Name, family and digest."""
    steps: int
    """The default number of steps."""
    step_choices: tuple[int, ...] = ()
    """The numbers of steps that the model supports, ascending; empty where any number is supported."""
    guidance: float
    """The default guidance."""
    max_guidance: float = MAX_GUIDANCE
    """The highest guidance that a caller may ask for."""
    width: int
    """The default width in pixels."""
    height: int
    """The default height in pixels."""
    native_side: IntegerRange | None = None
    """Width and height that the model was trained for, where it fails at others."""
    clip_skip: IntegerRange | None = None
    """Layers of the text encoders that can be used, counted from the end; None before the model is loaded."""
    schedulers: tuple[str, ...]
    """The schedulers that the model supports; the default is the first."""
    supports_loras: bool = True
    """Whether the runtimes of its components support LoRAs."""
    vocabulary: frozenset[str] = frozenset()
    """The words that the model follows, in lower case; empty where they are not known."""
    lora_embeddings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the textual inversion embeddings that LoRAs bring along, by LoRA."""
    lora_trigger_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Words that call up what a LoRA was trained on, by LoRA, where its file has them."""
    reproducibility: Reproducibility
    """How reproducible results are on the device."""
    versions: Mapping[str, str]
    """Versions of the packages, and digests of other weights, that affect the result."""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    """What runs each component, by the component's name in the configuration; empty before the model is loaded."""
    runtime_fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Why components are run by torch and not as configured, for those that are."""
