"""What an invokeai engine says it can do."""

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
from atelier_engines.vendors.invokeai.catalogue import Catalogue
from atelier_engines.vendors.invokeai.config import SCHEDULERS, InvokeAiConfig
from atelier_engines.vendors.options import NoOptions, build_options_schema

_LONGEST_PROMPT = 8000
_LARGEST_SIDE = 2048
_MOST_CONTROLS = 3
_MOST_LORAS = 10


def abilities(config: InvokeAiConfig, catalogue: Catalogue) -> Capabilities:
    """The capabilities of an engine so configured, on a server with those models."""
    return Capabilities(
        description="SDXL models on an InvokeAI server",
        image=_image(config, catalogue),
        concurrency=config.concurrency,
        cancel=CancelSupport.REMOTE,
        price=None if config.price is None else config.price.price(),
        options_schema=build_options_schema(NoOptions),
    )


def _image(config: InvokeAiConfig, catalogue: Catalogue) -> ImageCapabilities:
    others = (name for name in SCHEDULERS if name != config.scheduler)
    return ImageCapabilities(
        width=_side(config.width),
        height=_side(config.height),
        max_pixels=_LARGEST_SIDE**2,
        features=_features(catalogue),
        steps=IntegerRange(min=1, max=150, default=config.steps),
        guidance=NumberRange(min=1.0, max=30.0, default=config.guidance),
        max_images=config.max_images,
        max_prompt_length=_LONGEST_PROMPT,
        schedulers=(config.scheduler, *others),
        control_types=tuple(catalogue.controlnets),
        max_controls=_MOST_CONTROLS if catalogue.controlnets else 0,
        models=tuple(Model(name=name, family="sdxl") for name in catalogue.mains),
        loras=tuple(catalogue.loras),
        max_loras=_MOST_LORAS if catalogue.loras else 0,
    )


def _side(default: int) -> IntegerRange:
    return IntegerRange(min=64, max=_LARGEST_SIDE, default=default, multiple_of=8)


def _features(catalogue: Catalogue) -> frozenset[ImageFeature]:
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
