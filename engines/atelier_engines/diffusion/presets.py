"""Sampling defaults of distilled models, and how configuration and preset are combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from atelier_engines.diffusion.config import (
    DiffusionConfig,
    PredictionType,
    PresetName,
    SchedulerName,
    TimestepSpacing,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How models of one kind are sampled."""

    scheduler: SchedulerName
    """The default scheduler."""
    timestep_spacing: TimestepSpacing | None
    """How the timesteps are spaced; None leaves that to the model."""
    steps: int
    """The default number of steps."""
    step_choices: tuple[int, ...]
    """The numbers of steps that the models were made for."""
    guidance: float
    """The default guidance."""
    max_guidance: float
    """The highest useful guidance; more makes images worse."""
    prediction_types: Mapping[int, PredictionType] = field(default_factory=dict)
    """What the denoiser predicts, by numbers of steps, where that is not what the model says."""


PRESETS: Final[Mapping[PresetName, Preset]] = {
    # Source: the model card of ByteDance/SDXL-Lightning: Euler, "trailing", guidance 0, the
    # checkpoint of the step count; the one of a single step predicts the sample ("x0").
    "lightning": Preset(
        scheduler="euler",
        timestep_spacing="trailing",
        steps=4,
        step_choices=(1, 2, 4, 8),
        guidance=0.0,
        max_guidance=0.0,
        prediction_types={1: "sample"},
    ),
    # Source: the model card of stabilityai/sdxl-turbo: 1 to 4 steps, guidance 0; its
    # scheduler_config.json: Euler ancestral, "trailing".
    "turbo": Preset(
        scheduler="euler_a",
        timestep_spacing="trailing",
        steps=1,
        step_choices=(1, 2, 3, 4),
        guidance=0.0,
        max_guidance=0.0,
    ),
    # Source: the model card of ByteDance/Hyper-SD: LoRAs of 2, 4 and 8 steps, DDIM, "trailing",
    # guidance 0; those that keep guidance take 5 to 8 (set max_guidance).
    "hyper": Preset(
        scheduler="ddim",
        timestep_spacing="trailing",
        steps=8,
        step_choices=(2, 4, 8),
        guidance=0.0,
        max_guidance=0.0,
    ),
    # Source: the model card of latent-consistency/lcm-lora-sdxl: 2 to 8 steps, guidance 0 or 1 to 2.
    "lcm": Preset(
        scheduler="lcm",
        timestep_spacing=None,
        steps=4,
        step_choices=(2, 3, 4, 5, 6, 7, 8),
        guidance=1.0,
        max_guidance=2.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """Defaults and limits of sampling by configuration and preset; None where neither sets one."""

    steps: int | None
    """The default number of steps."""
    step_choices: tuple[int, ...]
    """The supported numbers of steps, ascending; empty where any number is supported."""
    guidance: float | None
    """The default guidance."""
    max_guidance: float | None
    """The highest guidance that a caller may ask for."""
    scheduler: SchedulerName | None
    """The default scheduler."""
    timestep_spacing: TimestepSpacing | None
    """How the timesteps are spaced."""
    prediction_types: Mapping[int, PredictionType]
    """See Preset.prediction_types."""


def resolve_defaults(config: DiffusionConfig) -> SamplingDefaults:
    """The defaults of an engine: those of its configuration before those of its preset."""
    preset = PRESETS[config.preset] if config.preset else None
    choices = _resolve_step_choices(config, preset)
    steps, guidance, max_guidance = config.steps, config.guidance, config.max_guidance
    if preset is not None:
        guidance = preset.guidance if guidance is None else guidance
        max_guidance = max(preset.max_guidance, guidance) if max_guidance is None else max_guidance
        steps = steps or preset.steps
    if choices and steps not in choices:
        steps = max(choices)
    return SamplingDefaults(
        steps=steps,
        step_choices=choices,
        guidance=guidance,
        max_guidance=max_guidance,
        scheduler=config.scheduler or (preset.scheduler if preset else None),
        timestep_spacing=config.timestep_spacing or (preset.timestep_spacing if preset else None),
        prediction_types=preset.prediction_types if preset else {},
    )


def _resolve_step_choices(config: DiffusionConfig, preset: Preset | None) -> tuple[int, ...]:
    """The keys of the variants, if there are any: each is for one number of steps."""
    if config.variants:
        return tuple(sorted(config.variants))
    if preset is None:
        return ()
    return tuple(sorted({*preset.step_choices, *([config.steps] if config.steps else [])}))
