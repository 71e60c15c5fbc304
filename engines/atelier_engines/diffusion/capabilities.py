"""The capabilities of a diffusion engine, before and after its model is loaded."""

from __future__ import annotations

import math
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
from atelier_engines.diffusion.embeddings import config_embeddings as embeddings
from atelier_engines.diffusion.loras import config_loras as loras
from atelier_engines.diffusion.model_info import GRID, MAX_GUIDANCE, MIN_SIDE, ModelInfo
from atelier_engines.diffusion.presets import resolve_defaults
from atelier_engines.diffusion.task_options import DiffusionOptions
from atelier_engines.options import build_options_schema
from atelier_engines.task import ResourceProfile
from atelier_engines.upscaling import registry

_MAX_STEPS = 150

STEPS = 30
GUIDANCE = 5.0
SD_GUIDANCE = 7.5
_SIDE = 1024
"""Defaults of the families, where neither the configuration nor the model says anything."""

_FEATURES = frozenset(
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


def unloaded_info(config: DiffusionConfig) -> ModelInfo:
    """What is known of a model before it is loaded; digest and versions are missing."""
    defaults = resolve_defaults(config)
    max_guidance = MAX_GUIDANCE if defaults.max_guidance is None else defaults.max_guidance
    return ModelInfo(
        model=Model(name=model_name(config)),
        steps=defaults.steps or STEPS,
        step_choices=defaults.step_choices,
        guidance=min(GUIDANCE if defaults.guidance is None else defaults.guidance, max_guidance),
        max_guidance=max_guidance,
        width=config.width or _SIDE,
        height=config.height or _SIDE,
        schedulers=_list_schedulers(defaults.scheduler or "euler"),
        reproducibility=Reproducibility.BEST_EFFORT,
        versions={},
    )


def model_name(config: DiffusionConfig) -> str:
    """The model's name: its hub id, or the last part of its path without a file's suffix."""
    path = Path(config.model).expanduser()
    if path.is_file():
        return path.stem
    return path.resolve().name if path.is_dir() else config.model


def build_capabilities(config: DiffusionConfig, info: ModelInfo) -> Capabilities:
    """The capabilities of an engine of that configuration and model."""
    width, height = _fit_default_size(config, info)
    return Capabilities(
        description=f"Stable Diffusion images by {info.model.name}",
        image=ImageCapabilities(
            width=_side_range(config, width),
            height=_side_range(config, height),
            max_pixels=config.max_pixels,
            features=_features(config, info),
            steps=_step_range(info),
            guidance=NumberRange(min=0.0, max=info.max_guidance, default=info.guidance),
            max_images=config.max_images,
            schedulers=info.schedulers,
            clip_skip=info.clip_skip,
            models=(info.model,),
            vocabulary=info.vocabulary,
            control_types=controls.control_types(config),
            max_controls=controls.max_controls(config),
            loras=loras.names(config) if info.supports_loras else (),
            max_loras=loras.max_loras(config) if info.supports_loras else 0,
            embeddings=embeddings.names(config),
            lora_embeddings=info.lora_embeddings,
            native_side=info.native_side,
            lora_trigger_words=info.lora_trigger_words if info.supports_loras else {},
            typed_names=config.prompt_syntax == "weighted",
            keeps_init_size=True,
            strength_skips_steps=True,
            upscalers=registry.names(config),
            resource_profiles=tuple(ResourceProfile),
            default_preview_interval=config.preview_interval,
        ),
        concurrency=config.concurrency,
        cancel=CancelSupport.STEP,
        reproducibility=info.reproducibility,
        options_schema=build_options_schema(DiffusionOptions),
        versions=info.versions,
        runtimes=info.runtimes,
        runtime_fallbacks=info.runtime_fallbacks,
    )


def native_side(
    config: DiffusionConfig, trained: tuple[int, int] | None, default: int
) -> IntegerRange | None:
    """The sides that a model was trained for, unless the configuration chooses another size."""
    if trained is None or config.width or config.height:
        return None
    return IntegerRange(min=trained[0], max=trained[1], default=default, multiple_of=GRID)


def _features(config: DiffusionConfig, info: ModelInfo) -> frozenset[ImageFeature]:
    found = _FEATURES | controls.features(config)
    if info.supports_loras:
        found |= loras.features(config)
    if embeddings.names(config) or info.lora_embeddings:
        found |= {ImageFeature.EMBEDDING}
    if info.max_guidance <= 1:  # a negative prompt has no effect without guidance
        found -= {ImageFeature.NEGATIVE_PROMPT}
    return found


def _step_range(info: ModelInfo) -> IntegerRange:
    choices = info.step_choices
    return IntegerRange(
        min=min(choices, default=1),
        max=max(choices, default=_MAX_STEPS),
        default=info.steps,
        allowed_values=choices,
    )


def _side_range(config: DiffusionConfig, default: int) -> IntegerRange:
    return IntegerRange(min=MIN_SIDE, max=config.max_side, default=default, multiple_of=GRID)


def _fit_default_size(config: DiffusionConfig, info: ModelInfo) -> tuple[int, int]:
    """The default width and height, shrunk in proportion to the configured limits."""
    shrink = min(
        1.0,
        config.max_side / max(info.width, info.height),
        math.sqrt(config.max_pixels / (info.width * info.height)),
    )
    width, height = (
        max(MIN_SIDE, int(side * shrink) // GRID * GRID) for side in (info.width, info.height)
    )
    return width, height


def _list_schedulers(default: SchedulerName) -> tuple[str, ...]:
    """All schedulers with a common name, the default first."""
    names: tuple[SchedulerName, ...] = get_args(SchedulerName)
    return (default, *(name for name in names if name != default))
