"""What each model at fal supports.

Source: the types of the JavaScript SDK @fal-ai/client 1.10.1 (types/endpoints.d.ts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from atelier_engines.capabilities import ImageFeature, IntegerRange, NumberRange
from atelier_engines.vendors.comfy_options import WorkflowOptions
from atelier_engines.vendors.endpoints import EndpointOptions

FalPriority = Literal["normal", "low"]
"""Priority of a job in the queue."""


class FalOptions(EndpointOptions):
    """Options of every fal engine."""

    priority: FalPriority | None = Field(
        default=None, description="Priority of the jobs in the queue; as configured when unset."
    )


class WorkflowRunOptions(FalOptions, WorkflowOptions):
    """Options of engines that run workflows."""


class ExpandOptions(FalOptions):
    """Options of models that can expand the prompt."""

    expand_prompt: bool | None = Field(
        default=None,
        description="Let the service expand the prompt; the service's default when unset.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What one model supports."""

    family: str
    """Model family, such as sdxl."""
    steps: IntegerRange
    """Denoising steps; a range in place of a set of values that is not a range."""
    fixed_steps: tuple[int, ...]
    """Numbers of steps that an engine can be configured to; empty where all of `steps` are supported."""
    steps_as_text: bool
    """Whether the number of steps is sent as a string."""
    guidance: NumberRange | None
    """Guidance scale; None where the model does not take it."""
    features: frozenset[ImageFeature]
    """Features without LORA, which depends on the configured files."""
    max_loras: int
    """Maximum number of LoRAs; 0 where the model takes none."""
    options: type[FalOptions]
    """Model of a task's options."""


_IMAGE_FEATURES = frozenset(
    {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.INPAINTING, ImageFeature.SEED}
)

MODELS: Mapping[str, ModelSpec] = {
    # The model takes 1, 2, 4 and 8 steps. 4 and 8 are a range; 1 and 2 can be configured.
    "fal-ai/fast-lightning-sdxl": ModelSpec(
        family="sdxl",
        steps=IntegerRange(min=4, max=8, default=4, multiple_of=4),
        fixed_steps=(1, 2, 4, 8),
        steps_as_text=True,
        guidance=None,
        features=_IMAGE_FEATURES,
        max_loras=0,
        options=ExpandOptions,
    ),
    "fal-ai/fast-sdxl": ModelSpec(
        family="sdxl",
        steps=IntegerRange(min=1, max=50, default=25),
        fixed_steps=(),
        steps_as_text=False,
        guidance=NumberRange(min=0.0, max=20.0, default=7.5),
        features=_IMAGE_FEATURES | {ImageFeature.NEGATIVE_PROMPT},
        max_loras=5,
        options=FalOptions,
    ),
}
"""Models by the path of their endpoint."""
