"""Capabilities of an ideogram engine."""

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
from atelier_engines.vendors.ideogram.config import IdeogramConfig, IdeogramOptions
from atelier_engines.vendors.ideogram.sizes import MAX_PIXELS
from atelier_engines.vendors.options import build_options_schema

_SIDE = IntegerRange(min=512, max=1536, default=1024, multiple_of=8)
_MAX_PROMPT_LENGTH = 8000
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
    return Capabilities(
        description="Ideogram 3",
        image=ImageCapabilities(
            width=_SIDE,
            height=_SIDE,
            max_pixels=MAX_PIXELS,
            features=_FEATURES,
            max_images=config.max_images,
            max_prompt_length=_MAX_PROMPT_LENGTH,
            models=(Model(name="ideogram-v3", family="ideogram"),),
        ),
        concurrency=config.concurrency,
        cancel=CancelSupport.NONE,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=config.listed_price,
        options_schema=build_options_schema(IdeogramOptions),
    )
