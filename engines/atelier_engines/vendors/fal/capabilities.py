"""What a fal engine says it can do."""

from __future__ import annotations

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    Reproducibility,
)
from atelier_engines.task import SafetyMode
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.models import MODELS, Facts
from atelier_engines.vendors.options import NoOptions, build_options_schema

_LONGEST_PROMPT = 4000
_SIDE = IntegerRange(min=256, max=2048, default=1024, multiple_of=8)
_MAX_PIXELS = 1536 * 1536
_STRICT_FIRST = (SafetyMode.BLOCK, SafetyMode.FLAG, SafetyMode.OFF)


def abilities(config: FalConfig) -> Capabilities:
    """The capabilities of an engine so configured."""
    return Capabilities(
        description=f"{config.model if config.comfy is None else config.comfy.endpoint} at fal.ai",
        image=_image(config),
        concurrency=config.concurrency,
        cancel=CancelSupport.REMOTE,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=None if config.price is None else config.price.price(),
        options_schema=build_options_schema(
            NoOptions if config.comfy else MODELS[config.model].options
        ),
    )


def _image(config: FalConfig) -> ImageCapabilities:
    if config.comfy is not None:
        return WorkflowSet.load(config.comfy).capabilities(max_images=config.max_images)
    facts = MODELS[config.model]
    loras = tuple(config.loras)
    return ImageCapabilities(
        width=_SIDE,
        height=_SIDE,
        max_pixels=_MAX_PIXELS,
        features=facts.features | ({ImageFeature.LORA} if loras else set()),
        steps=_steps(config, facts),
        guidance=facts.guidance,
        max_images=config.max_images,
        max_prompt_length=_LONGEST_PROMPT,
        models=(Model(name=config.model, family=facts.family),),
        loras=loras,
        max_loras=facts.max_loras if loras else 0,
        safety_modes=_STRICT_FIRST[: _STRICT_FIRST.index(config.safety) + 1],
    )


def _steps(config: FalConfig, facts: Facts) -> IntegerRange:
    if config.steps is None:
        return facts.steps
    return IntegerRange(min=config.steps, max=config.steps, default=config.steps)
