"""Capabilities of a fal engine."""

from __future__ import annotations

from dataclasses import replace

from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
)
from atelier_engines.options import limit_choices
from atelier_engines.task import SafetyMode
from atelier_engines.vendors.capabilities import build_service_capabilities
from atelier_engines.vendors.comfy_options import limit_overrides
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.models import MODELS, ModelSpec, WorkflowRunOptions

_MAX_PROMPT_LENGTH = 4000
_MAX_SEED = 2**32 - 1
_SIDE = IntegerRange(min=256, max=2048, default=1024, multiple_of=8)
_MAX_PIXELS = 1536 * 1536
_SAFETY_MODES = (SafetyMode.BLOCK, SafetyMode.FLAG, SafetyMode.OFF)


def build_capabilities(config: FalConfig) -> Capabilities:
    """The capabilities of an engine with that configuration."""
    capabilities = build_service_capabilities(
        config,
        _image(config),
        description=f"{config.endpoints[0]} at fal.ai",
        cancellable=True,
        options=WorkflowRunOptions if config.comfy else MODELS[config.model].options,
    )
    schema = limit_choices(capabilities.options_schema, "endpoint", config.endpoints)
    if config.comfy is not None:
        workflows = WorkflowSet.load(config.comfy).workflows.values()
        schema = limit_overrides(schema, workflows, config.comfy)
    return replace(capabilities, options_schema=schema)


def _image(config: FalConfig) -> ImageCapabilities:
    if config.comfy is not None:
        return WorkflowSet.load(config.comfy).capabilities(max_images=config.max_images)
    spec = MODELS[config.model]
    loras = tuple(config.loras)
    return ImageCapabilities(
        width=_SIDE,
        height=_SIDE,
        max_pixels=_MAX_PIXELS,
        features=spec.features | ({ImageFeature.LORA} if loras else set()),
        steps=_steps(config, spec),
        guidance=spec.guidance,
        max_images=config.max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        max_seed=_MAX_SEED,
        models=(Model(name=config.model, family=spec.family),),
        loras=loras,
        max_loras=spec.max_loras if loras else 0,
        safety_modes=_SAFETY_MODES[: _SAFETY_MODES.index(config.safety) + 1],
    )


def _steps(config: FalConfig, spec: ModelSpec) -> IntegerRange:
    if config.steps is None:
        return spec.steps
    return IntegerRange(min=config.steps, max=config.steps, default=config.steps)
