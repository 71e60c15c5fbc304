"""What distilled models want, as plain data; whatever the configuration says itself wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from atelier_engines.diffusion.config import (
    DiffusionConfig,
    Prediction,
    PresetName,
    SchedulerName,
    Spacing,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How models of one kind are run."""

    scheduler: SchedulerName
    """The default."""
    spacing: Spacing | None
    """How the time steps lie; None leaves that to the model."""
    steps: int
    """The default."""
    choices: tuple[int, ...]
    """The steps that the models were made for."""
    guidance: float
    """The default."""
    max_guidance: float
    """More than this spoils the picture."""
    predictions: Mapping[int, Prediction] = field(default_factory=dict)
    """What the denoiser predicts in so many steps, where that is not what the model says."""


PRESETS: Final[Mapping[PresetName, Preset]] = {
    # Source: the model card of ByteDance/SDXL-Lightning: Euler, "trailing", guidance 0, the
    # checkpoint of the step count; the one of a single step predicts the sample ("x0").
    "lightning": Preset(
        scheduler="euler",
        spacing="trailing",
        steps=4,
        choices=(1, 2, 4, 8),
        guidance=0.0,
        max_guidance=0.0,
        predictions={1: "sample"},
    ),
    # Source: the model card of stabilityai/sdxl-turbo: 1 to 4 steps, guidance 0; its
    # scheduler_config.json: Euler ancestral, "trailing".
    "turbo": Preset(
        scheduler="euler_a",
        spacing="trailing",
        steps=1,
        choices=(1, 2, 3, 4),
        guidance=0.0,
        max_guidance=0.0,
    ),
    # Source: the model card of ByteDance/Hyper-SD: LoRAs of 2, 4 and 8 steps, DDIM, "trailing",
    # guidance 0; those that keep guidance take 5 to 8 (set max_guidance).
    "hyper": Preset(
        scheduler="ddim",
        spacing="trailing",
        steps=8,
        choices=(2, 4, 8),
        guidance=0.0,
        max_guidance=0.0,
    ),
    # Source: the model card of latent-consistency/lcm-lora-sdxl: 2 to 8 steps, guidance 0 or 1 to 2.
    "lcm": Preset(
        scheduler="lcm",
        spacing=None,
        steps=4,
        choices=(2, 3, 4, 5, 6, 7, 8),
        guidance=1.0,
        max_guidance=2.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the configuration asks for, its preset included; None where it says nothing."""

    steps: int | None
    choices: tuple[int, ...]
    """The steps there are, ascending; empty where any number is fine."""
    guidance: float | None
    max_guidance: float | None
    scheduler: SchedulerName | None
    spacing: Spacing | None

    predictions: Mapping[int, Prediction]
    """As Preset.predictions."""


def wishes(config: DiffusionConfig) -> Wishes:
    """What `config` asks for: its own words before those of its preset."""
    preset = PRESETS[config.preset] if config.preset else None
    choices = _choices(config, preset)
    steps, guidance, ceiling = config.steps, config.guidance, config.max_guidance
    if preset is not None:
        guidance = preset.guidance if guidance is None else guidance
        ceiling = max(preset.max_guidance, guidance) if ceiling is None else ceiling
        steps = steps or preset.steps
    if choices and steps not in choices:
        steps = max(choices)
    return Wishes(
        steps=steps,
        choices=choices,
        guidance=guidance,
        max_guidance=ceiling,
        scheduler=config.scheduler or (preset.scheduler if preset else None),
        spacing=config.spacing or (preset.spacing if preset else None),
        predictions=preset.predictions if preset else {},
    )


def _choices(config: DiffusionConfig, preset: Preset | None) -> tuple[int, ...]:
    """The variants, if there are any: the number of steps is the variant."""
    if config.variants:
        return tuple(sorted(config.variants))
    if preset is None:
        return ()
    return tuple(sorted({*preset.choices, *([config.steps] if config.steps else [])}))
