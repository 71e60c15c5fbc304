"""Capabilities of a bfl engine."""

from __future__ import annotations

from dataclasses import replace

from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    Model,
)
from atelier_engines.options import limit_maximum
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.models import MODELS, ModelSpec
from atelier_engines.vendors.capabilities import build_service_capabilities

_MAX_PROMPT_LENGTH = 8000
_MAX_SEED = 2**31 - 1


def build_capabilities(config: BflConfig) -> Capabilities:
    """The capabilities of an engine with that configuration."""
    spec = MODELS[config.model]
    image = ImageCapabilities(
        width=spec.width,
        height=spec.height,
        max_pixels=spec.max_pixels,
        features=_features(spec, inpainting=config.inpainting),
        steps=spec.steps,
        guidance=spec.guidance,
        max_images=config.max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        models=(Model(name=config.model, family="flux"),),
        max_seed=_MAX_SEED,
        ignores_strength=not spec.image_weight_field,
        inpainting_ignores_strength=True,
    )
    capabilities = build_service_capabilities(
        config, image, description=f"{config.model} at Black Forest Labs", options=spec.options
    )
    schema = limit_maximum(
        capabilities.options_schema, "safety_tolerance", config.max_safety_tolerance
    )
    return replace(capabilities, options_schema=schema)


def _features(spec: ModelSpec, *, inpainting: bool) -> frozenset[ImageFeature]:
    features = {ImageFeature.SEED}
    if spec.image_field:
        features.add(ImageFeature.IMAGE_TO_IMAGE)
    if inpainting and spec.steps is None:  # the inpainting model has other steps and guidance
        features.add(ImageFeature.INPAINTING)
    return frozenset(features)
