"""Settings of a bfl engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from atelier_engines.vendors.bfl.models import DEFAULT_SAFETY_TOLERANCE, MODELS
from atelier_engines.vendors.config import (
    ApiKey,
    BaseUrl,
    Concurrency,
    JobsConfig,
    MaxImages,
)


class BflConfig(JobsConfig):
    """A bfl engine's section in the configuration file."""

    api_key: ApiKey = Field(description="API key of the account: ${BFL_API_KEY}.")
    base_url: BaseUrl = Field(
        default="https://api.bfl.ai",
        description="URL of the service; https://api.eu.bfl.ai and https://api.us.bfl.ai run jobs "
        "in one region only.",
    )
    model: str = Field(
        default="flux-2-pro",
        description="Model: " + ", ".join(MODELS) + ".",
    )
    inpainting: bool = Field(
        default=True,
        description="Run tasks with a mask on flux-pro-1.0-fill, which has its own price. "
        "No effect with models that take a number of steps.",
    )
    output_format: Literal["png", "jpeg"] = Field(
        default="png", description="File format of the images."
    )
    safety_tolerance: int | None = Field(
        default=None,
        ge=0,
        le=6,
        description="From 0 (strict) to 5 or 6, depending on the model; the service's default when null.",
    )
    max_images: MaxImages = Field(default=4, le=24)
    concurrency: Concurrency = Field(
        default=6,
        le=24,
        description="Maximum tasks at once, of 24 jobs that the service runs at once.",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        spec = MODELS.get(self.model)
        if spec is None:
            raise ValueError(f"model must be one of {', '.join(MODELS)}")
        if self.safety_tolerance is not None and self.safety_tolerance > spec.max_safety_tolerance:
            raise ValueError(
                f"safety_tolerance of {self.model} is at most {spec.max_safety_tolerance}"
            )
        return self

    @property
    def max_safety_tolerance(self) -> int:
        """The laxest that a request may ask for."""
        if self.safety_tolerance is None:
            return DEFAULT_SAFETY_TOLERANCE
        return self.safety_tolerance
