"""What a bfl engine says it can do."""

from __future__ import annotations

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    Model,
    Reproducibility,
)
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.models import MODELS, Facts
from atelier_engines.vendors.options import build_options_schema

_LONGEST_PROMPT = 8000


def abilities(config: BflConfig) -> Capabilities:
    """The capabilities of an engine so configured."""
    facts = MODELS[config.model]
    return Capabilities(
        description=f"{config.model} at Black Forest Labs",
        image=ImageCapabilities(
            width=facts.width,
            height=facts.height,
            max_pixels=facts.max_pixels,
            features=_features(facts, inpainting=config.inpainting),
            steps=facts.steps,
            guidance=facts.guidance,
            max_images=config.max_images,
            max_prompt_length=_LONGEST_PROMPT,
            models=(Model(name=config.model, family="flux"),),
        ),
        concurrency=config.concurrency,
        cancel=CancelSupport.NONE,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=None if config.price is None else config.price.price(),
        options_schema=build_options_schema(facts.options),
    )


def _features(facts: Facts, *, inpainting: bool) -> frozenset[ImageFeature]:
    features = {ImageFeature.SEED}
    if facts.start:
        features.add(ImageFeature.IMAGE_TO_IMAGE)
    if inpainting and facts.steps is None:  # the filling model has other steps and guidance
        features.add(ImageFeature.INPAINTING)
    return frozenset(features)
