"""What an openai engine says it can do."""

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
from atelier_engines.vendors.openai.config import OpenaiConfig, OpenaiOptions
from atelier_engines.vendors.options import build_options_schema

_LONGEST_PROMPT = 32000
_ANY_SIDE = IntegerRange(min=512, max=3840, default=1024, multiple_of=16)
_ANY_PIXELS = 3840 * 2160
_FIXED_SIDE = IntegerRange(min=512, max=1536, default=1024, multiple_of=8)
_FIXED_PIXELS = 1536 * 1024


def abilities(config: OpenaiConfig) -> Capabilities:
    """The capabilities of an engine so configured."""
    side = _ANY_SIDE if config.any_size else _FIXED_SIDE
    features = {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING}
    if config.partial_images:
        features.add(ImageFeature.PREVIEW)
    return Capabilities(
        description=f"{config.model} by OpenAI's image interface",
        image=ImageCapabilities(
            width=side,
            height=side,
            max_pixels=_ANY_PIXELS if config.any_size else _FIXED_PIXELS,
            features=frozenset(features),
            max_images=config.max_images,
            max_prompt_length=_LONGEST_PROMPT,
            models=(Model(name=config.model),),
        ),
        concurrency=config.concurrency,
        cancel=CancelSupport.NONE,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=None if config.price is None else config.price.price(),
        options_schema=build_options_schema(OpenaiOptions),
    )
