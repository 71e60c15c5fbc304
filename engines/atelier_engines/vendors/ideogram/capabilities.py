"""Capabilities of an ideogram engine."""

from __future__ import annotations

from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
)
from atelier_engines.vendors.capabilities import build_service_capabilities
from atelier_engines.vendors.ideogram.config import IdeogramConfig, IdeogramOptions
from atelier_engines.vendors.ideogram.sizes import MAX_PIXELS

_SIDE = IntegerRange(min=512, max=1536, default=1024, multiple_of=8)
_MAX_PROMPT_LENGTH = 8000
_MAX_SEED = 2**31 - 1
_FEATURES = frozenset(
    {
        ImageFeature.SEED,
        ImageFeature.NEGATIVE_PROMPT,
        ImageFeature.IMAGE_TO_IMAGE,
        ImageFeature.INPAINTING,
    }
)


def build_capabilities(config: IdeogramConfig) -> Capabilities:
    """Capabilities of an engine with this configuration."""
    image = ImageCapabilities(
        width=_SIDE,
        height=_SIDE,
        max_pixels=MAX_PIXELS,
        features=_FEATURES,
        max_seed=_MAX_SEED,
        inpainting_ignores_strength=True,
        inpainting_ignores_negative_prompt=True,
        max_images=config.max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        models=(Model(name="ideogram-v3", family="ideogram"),),
    )
    return build_service_capabilities(
        config, image, description="Ideogram 3", options=IdeogramOptions
    )
