"""The capabilities of a sketch engine."""

from __future__ import annotations

import numpy as np
import PIL

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    NumberRange,
    Price,
    PriceUnit,
    Reproducibility,
)
from atelier_engines.options import build_options_schema
from atelier_engines.sketch.audio.words import VOCABULARY
from atelier_engines.sketch.config import SketchConfig, SketchOptions

_MAX_PROMPT_LENGTH = 8192
_SIDE = IntegerRange(min=16, max=4096, default=512)
_STEPS = IntegerRange(min=1, max=1000, default=4)


def build_capabilities(config: SketchConfig, features: frozenset[ImageFeature]) -> Capabilities:
    """The capabilities of an engine of that configuration; `features` are those of its image source."""
    price = config.price_per_image
    return Capabilities(
        description="Sketched images and audio, generated without a model",
        image=_image(features),
        audio=_audio(),
        concurrency=config.concurrency,
        cancel=CancelSupport.STEP,
        reproducibility=Reproducibility.BIT_EXACT,
        placeholder=True,
        price=None if price is None else Price(amount=price, unit=PriceUnit.IMAGE),
        options_schema=build_options_schema(SketchOptions),
        versions={"numpy": np.__version__, "pillow": PIL.__version__},
    )


def _image(features: frozenset[ImageFeature]) -> ImageCapabilities:
    return ImageCapabilities(
        width=_SIDE,
        height=_SIDE,
        max_pixels=_SIDE.max**2,
        features=features,
        steps=_STEPS,
        guidance=NumberRange(min=0.0, max=20.0, default=5.0),
        max_images=16,
        max_prompt_length=_MAX_PROMPT_LENGTH,
    )


def _audio() -> AudioCapabilities:
    return AudioCapabilities(
        duration_seconds=NumberRange(min=0.1, max=600.0, default=2.0),
        sample_rates=(44100, 48000, 16000),
        channels=(1, 2),
        features=frozenset(
            {
                AudioFeature.SEED,
                AudioFeature.SEAMLESS_LOOP,
                AudioFeature.AUDIO_TO_AUDIO,
                AudioFeature.CONTINUATION,
                AudioFeature.PREVIEW,
            }
        ),
        vocabulary=VOCABULARY,
        steps=_STEPS,
        max_prompt_length=_MAX_PROMPT_LENGTH,
    )
