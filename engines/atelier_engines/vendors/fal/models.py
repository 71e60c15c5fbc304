"""What each model at fal takes: facts alone.

Source: the types of the JavaScript SDK @fal-ai/client 1.10.1 (types/endpoints.d.ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.capabilities import ImageFeature, IntegerRange, NumberRange
from atelier_engines.vendors.options import NoOptions


class ExpandOptions(BaseModel):
    """Options of models that can rewrite the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    expand_prompt: bool | None = Field(
        default=None, description="Let the service rewrite the prompt; its own choice when unset."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one model takes."""

    family: str
    """Architecture."""
    steps: IntegerRange
    """Denoising steps; a range of its own stands for each set that is no range at all."""
    fixed_steps: tuple[int, ...]
    """Numbers of steps that an engine may be fixed to; empty where every number in `steps` is taken."""
    steps_as_text: bool
    """Whether the number of steps is sent as a string."""
    guidance: NumberRange | None
    """Guidance scale; None where it can't be chosen."""
    features: frozenset[ImageFeature]
    """Without LORA, which needs files."""
    max_loras: int
    """Most LoRAs; 0 where it takes none."""
    options: type[BaseModel]
    """Options of a task."""


_FROM_PICTURES = frozenset(
    {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING, ImageFeature.SEED}
)

MODELS: Mapping[str, Facts] = {
    # It takes 1, 2, 4 and 8 steps. 4 and 8 are a range; who wants 1 or 2 fixes the engine to them.
    "fal-ai/fast-lightning-sdxl": Facts(
        family="sdxl",
        steps=IntegerRange(min=4, max=8, default=4, multiple_of=4),
        fixed_steps=(1, 2, 4, 8),
        steps_as_text=True,
        guidance=None,
        features=_FROM_PICTURES,
        max_loras=0,
        options=ExpandOptions,
    ),
    "fal-ai/fast-sdxl": Facts(
        family="sdxl",
        steps=IntegerRange(min=1, max=50, default=25),
        fixed_steps=(),
        steps_as_text=False,
        guidance=NumberRange(min=0.0, max=20.0, default=7.5),
        features=_FROM_PICTURES | {ImageFeature.NEGATIVE_PROMPT},
        max_loras=5,
        options=NoOptions,
    ),
}
"""By the path of the endpoint."""
