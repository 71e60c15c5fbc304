"""What each FLUX model supports.

Source: the OpenAPI document of api.bfl.ai as of May 2026, and docs.bfl.ai where the models' pages say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.capabilities import IntegerRange, NumberRange


class BflOptions(BaseModel):
    """Options of every model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    safety_tolerance: int | None = Field(
        default=None,
        ge=0,
        description="From 0, strict, to what the engine is configured with; that when unset.",
    )


class UpsamplingOptions(BflOptions):
    """Options of models that can rewrite the prompt."""

    prompt_upsampling: bool | None = Field(
        default=None,
        description="Let the service rewrite the prompt; the service's default when unset.",
    )


class UltraOptions(UpsamplingOptions):
    """Options of flux-pro-1.1-ultra."""

    raw: bool | None = Field(
        default=None, description="Less processed, more natural images; false when unset."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What one model supports."""

    width: IntegerRange
    """Width in pixels."""
    height: IntegerRange
    """Height in pixels."""
    max_pixels: int
    """Maximum pixels in one image."""
    takes_aspect_ratio: bool = False
    """Whether it takes an aspect ratio, not a size; its images are then resized to the size requested."""
    image_field: str = ""
    """Field for the init image; empty where the model takes none."""
    image_weight_field: str = ""
    """Field for the weight of the init image, 0 to 1; empty where the model takes none."""
    steps: IntegerRange | None = None
    """Denoising steps; None where the model does not take them."""
    guidance: NumberRange | None = None
    """Guidance scale; None where the model does not take it."""
    max_safety_tolerance: int = 6
    """Maximum of `safety_tolerance`."""
    options: type[BflOptions] = BflOptions
    """Model of a task's options."""


ASPECT_RATIOS = ((21, 9), (16, 9), (3, 2), (4, 3), (1, 1), (3, 4), (2, 3), (9, 16), (9, 21))
"""Aspect ratios of models with `takes_aspect_ratio`, from wide to tall."""
DEFAULT_SAFETY_TOLERANCE = 2
"""What the service takes where a request says nothing."""
FILL = "flux-pro-1.0-fill"
"""Model for inpainting."""
FILL_OPTIONS = frozenset({"prompt_upsampling", "safety_tolerance"})
"""Options that it takes."""

_SIDE_2 = IntegerRange(min=64, max=2048, default=1024, multiple_of=16)
_FLUX_2 = ModelSpec(
    width=_SIDE_2,
    height=_SIDE_2,
    max_pixels=2048 * 2048,
    image_field="input_image",
    max_safety_tolerance=5,
)
_FLUX_1 = ModelSpec(
    width=IntegerRange(min=256, max=1440, default=1024, multiple_of=32),
    height=IntegerRange(min=256, max=1440, default=768, multiple_of=32),
    max_pixels=1440 * 1440,
    options=UpsamplingOptions,
)
_SIDE_KONTEXT = IntegerRange(min=512, max=1568, default=1024, multiple_of=16)
_KONTEXT = ModelSpec(
    width=_SIDE_KONTEXT,
    height=_SIDE_KONTEXT,
    max_pixels=1568 * 1568,
    takes_aspect_ratio=True,
    image_field="input_image",
    options=UpsamplingOptions,
)
_SIDE_ULTRA = IntegerRange(min=512, max=2752, default=2048, multiple_of=16)

MODELS: Mapping[str, ModelSpec] = {
    "flux-2-pro": _FLUX_2,
    "flux-2-pro-preview": _FLUX_2,
    "flux-2-max": _FLUX_2,
    "flux-2-flex": replace(
        _FLUX_2,
        steps=IntegerRange(min=1, max=50, default=50),
        guidance=NumberRange(min=1.5, max=10.0, default=5.0),
        options=UpsamplingOptions,
    ),
    "flux-2-klein-4b": _FLUX_2,
    "flux-2-klein-9b": _FLUX_2,
    "flux-2-klein-9b-preview": _FLUX_2,
    "flux-kontext-pro": _KONTEXT,
    "flux-kontext-max": _KONTEXT,
    "flux-pro-1.1": _FLUX_1,
    "flux-pro-1.1-ultra": ModelSpec(
        width=_SIDE_ULTRA,
        height=_SIDE_ULTRA,
        max_pixels=2048 * 2752,
        takes_aspect_ratio=True,
        image_field="image_prompt",
        image_weight_field="image_prompt_strength",
        options=UltraOptions,
    ),
    "flux-dev": replace(
        _FLUX_1,
        steps=IntegerRange(min=1, max=50, default=28),
        guidance=NumberRange(min=1.5, max=5.0, default=3.0),
    ),
}
"""Models by their names at the service."""
