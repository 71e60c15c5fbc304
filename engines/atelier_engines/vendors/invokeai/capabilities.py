"""Capabilities of an invokeai engine."""

from __future__ import annotations

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_engines.options import build_options_schema
from atelier_engines.task import JSON
from atelier_engines.vendors.invokeai.catalog import ModelCatalog
from atelier_engines.vendors.invokeai.config import SCHEDULERS, InvokeAiConfig, InvokeAiOptions

_MAX_PROMPT_LENGTH = 8000
_MAX_SEED = 2**32 - 1
_MAX_SIDE = 2048
_MAX_CONTROLS = 3
_MAX_LORAS = 10


def build_capabilities(config: InvokeAiConfig, catalogue: ModelCatalog) -> Capabilities:
    """Capabilities of an engine with this configuration, on a server with those models."""
    return Capabilities(
        description="SDXL models on an InvokeAI server",
        image=_image(config, catalogue),
        concurrency=config.concurrency,
        cancel=CancelSupport.REMOTE,
        resumable=True,
        price=config.listed_price,
        options_schema=_options_schema(catalogue),
    )


def _options_schema(catalogue: ModelCatalog) -> dict[str, JSON]:
    """The schema of the options, with the names of the server's style presets."""
    schema = build_options_schema(InvokeAiOptions)
    names: list[JSON] = [*sorted(catalogue.style_presets)]
    match schema:
        case {"properties": {"style_preset": dict(option)}} if names:
            option["examples"] = names
    return schema


def _image(config: InvokeAiConfig, catalogue: ModelCatalog) -> ImageCapabilities:
    others = (name for name in SCHEDULERS if name != config.scheduler)
    return ImageCapabilities(
        width=_side(config.width),
        height=_side(config.height),
        max_pixels=_MAX_SIDE**2,
        features=_features(catalogue),
        steps=IntegerRange(min=1, max=150, default=config.steps),
        guidance=NumberRange(min=1.0, max=30.0, default=config.guidance),
        max_images=config.max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        max_seed=_MAX_SEED,
        schedulers=(config.scheduler, *others),
        control_types=tuple(catalogue.controlnets),
        max_controls=_MAX_CONTROLS if catalogue.controlnets else 0,
        models=tuple(Model(name=name, family="sdxl") for name in catalogue.mains),
        loras=tuple(catalogue.loras),
        max_loras=_MAX_LORAS if catalogue.loras else 0,
    )


def _side(default: int) -> IntegerRange:
    return IntegerRange(min=64, max=_MAX_SIDE, default=default, multiple_of=8)


def _features(catalogue: ModelCatalog) -> frozenset[ImageFeature]:
    features = {
        ImageFeature.IMAGE_TO_IMAGE,
        ImageFeature.INPAINTING,
        ImageFeature.NEGATIVE_PROMPT,
        ImageFeature.PREVIEW,
        ImageFeature.SCHEDULER,
        ImageFeature.SEED,
    }
    if catalogue.controlnets:
        features.add(ImageFeature.CONTROLNET)
    if catalogue.loras:
        features.add(ImageFeature.LORA)
    return frozenset(features)
