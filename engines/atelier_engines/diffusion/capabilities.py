"""What a diffusion engine says it can do, before and after its model is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
    Reproducibility,
)
from atelier_engines.diffusion.config import DiffusionConfig, SchedulerName
from atelier_engines.diffusion.controls import config_controls as controls
from atelier_engines.diffusion.loras import config_loras as loras
from atelier_engines.diffusion.presets import wishes
from atelier_engines.task import ResourceProfile
from atelier_engines.upscaling import registry

MAX_STEPS = 150
MAX_GUIDANCE = 30.0
MIN_SIDE = 64
GRID = 8
"""Width and height are multiples of this, whatever the model."""

STEPS = 30
GUIDANCE = 5.0
SD_GUIDANCE = 7.5
SIDE = 1024
"""Defaults of the families, where neither the configuration nor the model says anything."""

FEATURES = frozenset(
    {
        ImageFeature.IMAGE_TO_IMAGE,
        ImageFeature.INPAINTING,
        ImageFeature.UPSCALING,
        ImageFeature.SEED,
        ImageFeature.NEGATIVE_PROMPT,
        ImageFeature.SCHEDULER,
        ImageFeature.PREVIEW,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What capabilities say about a loaded model."""

    model: Model
    """Name, family and digest."""
    steps: int
    """Default."""
    step_choices: tuple[int, ...] = ()
    """The steps there are, ascending; empty where any number is fine."""
    guidance: float
    """Default."""
    max_guidance: float = MAX_GUIDANCE
    """The most that a caller may ask for."""
    width: int
    """Default, in pixels."""
    height: int
    """Default, in pixels."""
    scheduler: SchedulerName
    """Default."""
    reproducibility: Reproducibility
    """Of the device."""
    versions: Mapping[str, str]
    """Versions of the packages that shape the result."""


def expected(config: DiffusionConfig) -> Facts:
    """What can be said of a model that is not loaded; its digest and versions are missing."""
    wished = wishes(config)
    ceiling = MAX_GUIDANCE if wished.max_guidance is None else wished.max_guidance
    return Facts(
        model=Model(name=model_name(config)),
        steps=wished.steps or STEPS,
        step_choices=wished.choices,
        guidance=min(GUIDANCE if wished.guidance is None else wished.guidance, ceiling),
        max_guidance=ceiling,
        width=config.width or SIDE,
        height=config.height or SIDE,
        scheduler=wished.scheduler or "euler",
        reproducibility=Reproducibility.BEST_EFFORT,
        versions={},
    )


def model_name(config: DiffusionConfig) -> str:
    """The hub id, or the last part of a path, without the ending of a file."""
    path = Path(config.model).expanduser()
    if path.is_file():
        return path.stem
    return path.resolve().name if path.is_dir() else config.model


def describe(config: DiffusionConfig, facts: Facts) -> Capabilities:
    """What an engine of that configuration and model can do."""
    width, height = _fitting(config, facts)
    return Capabilities(
        description=f"Stable Diffusion pictures by {facts.model.name}",
        image=ImageCapabilities(
            width=_side(config, width),
            height=_side(config, height),
            max_pixels=config.max_pixels,
            features=_features(facts) | controls.features(config) | loras.features(config),
            steps=_steps(facts),
            guidance=NumberRange(min=0.0, max=facts.max_guidance, default=facts.guidance),
            max_images=config.max_images,
            schedulers=_default_first(facts.scheduler),
            models=(facts.model,),
            control_types=controls.control_types(config),
            max_controls=controls.max_controls(config),
            loras=loras.names(config),
            max_loras=loras.max_loras(config),
            keeps_init_size=True,
            upscalers=registry.names(config),
            resource_profiles=tuple(ResourceProfile),
            default_preview_interval=config.preview_interval,
        ),
        concurrency=config.concurrency,
        cancel=CancelSupport.STEP,
        reproducibility=facts.reproducibility,
        versions=facts.versions,
    )


def _features(facts: Facts) -> frozenset[ImageFeature]:
    """Without guidance, which it only steers, a negative prompt would have no effect."""
    if facts.max_guidance <= 1:
        return FEATURES - {ImageFeature.NEGATIVE_PROMPT}
    return FEATURES


def _steps(facts: Facts) -> IntegerRange:
    choices = facts.step_choices
    return IntegerRange(
        min=min(choices, default=1),
        max=max(choices, default=MAX_STEPS),
        default=facts.steps,
        allowed_values=choices,
    )


def _side(config: DiffusionConfig, default: int) -> IntegerRange:
    return IntegerRange(min=MIN_SIDE, max=config.max_side, default=default, multiple_of=GRID)


def _fitting(config: DiffusionConfig, facts: Facts) -> tuple[int, int]:
    """The default width and height, shrunk to the configured limits in their proportion."""
    shrink = min(
        1.0,
        config.max_side / max(facts.width, facts.height),
        math.sqrt(config.max_pixels / (facts.width * facts.height)),
    )
    width, height = (
        max(MIN_SIDE, int(side * shrink) // GRID * GRID) for side in (facts.width, facts.height)
    )
    return width, height


def _default_first(default: SchedulerName) -> tuple[str, ...]:
    names: tuple[SchedulerName, ...] = get_args(SchedulerName)
    return (default, *(name for name in names if name != default))
