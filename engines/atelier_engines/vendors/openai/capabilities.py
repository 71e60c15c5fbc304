"""Capabilities of an openai engine."""

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
from atelier_engines.vendors.capabilities import build_service_capabilities
from atelier_engines.vendors.openai.config import OpenaiConfig, OpenaiOptions

_MAX_PROMPT_LENGTH = 32000
_ANY_SIDE = IntegerRange(min=512, max=3840, default=1024, multiple_of=16)
_ANY_PIXELS = 3840 * 2160
_FIXED_SIDE = IntegerRange(min=512, max=1536, default=1024, multiple_of=8)
_FIXED_PIXELS = 1536 * 1024


def build_capabilities(config: OpenaiConfig) -> Capabilities:
    """Capabilities of an engine with this configuration."""
    side = _ANY_SIDE if config.any_size else _FIXED_SIDE
    features = {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING}
    if config.partial_images:
        features.add(ImageFeature.PREVIEW)
    image = ImageCapabilities(
        width=side,
        height=side,
        max_pixels=_ANY_PIXELS if config.any_size else _FIXED_PIXELS,
        features=frozenset(features),
        max_images=config.max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        models=(Model(name=config.model),),
        ignores_strength=True,
    )
    capabilities = build_service_capabilities(
        config,
        image,
        description=f"{config.model} through the OpenAI image API",
        options=OpenaiOptions,
    )
    schema = limit_choices(capabilities.options_schema, "moderation", config.moderations)
    return replace(capabilities, options_schema=schema)
