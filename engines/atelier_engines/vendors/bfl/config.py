"""What can be set about a bfl engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import Section
from atelier_engines.vendors.bfl.models import MODELS
from atelier_engines.vendors.price import PriceConfig


class BflConfig(Section):
    """A bfl engine's section in the configuration file."""

    api_key: SecretStr = Field(min_length=1, description="Key of the account: ${BFL_API_KEY}.")
    base_url: str = Field(
        default="https://api.bfl.ai",
        pattern="^https?://",
        description="Where the service is; https://api.eu.bfl.ai and https://api.us.bfl.ai keep "
        "the work in one region.",
    )
    model: str = Field(
        default="flux-2-pro",
        description="Model that draws: " + ", ".join(MODELS) + ".",
    )
    inpainting: bool = Field(
        default=True,
        description="Do tasks with a mask by flux-pro-1.0-fill, which is charged by its own price. "
        "No effect with models that have steps to choose.",
    )
    output_format: Literal["png", "jpeg"] = Field(
        default="png", description="File format of the pictures."
    )
    safety_tolerance: int | None = Field(
        default=None,
        ge=0,
        le=6,
        description="From 0, strict, to 5 or 6, depending on the model; its own choice when null.",
    )
    price: PriceConfig | None = Field(
        default=None,
        description="Price to show and to count: amount, unit (image, megapixel, second), currency.",
    )
    max_images: int = Field(
        default=4, ge=1, le=24, description="Most pictures in one task; each is one paid job."
    )
    concurrency: int = Field(
        default=6,
        ge=1,
        le=24,
        description="Tasks worked on at once. The service takes 24 jobs at once from an account.",
    )
    poll_seconds: float = Field(
        default=0.5, gt=0, description="First pause between two polls; it grows to six times that."
    )
    deadline_seconds: float = Field(
        default=300.0, gt=0, description="Longest that a task may take from its acceptance."
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        facts = MODELS.get(self.model)
        if facts is None:
            raise ValueError(f"model must be one of {', '.join(MODELS)}")
        if self.safety_tolerance is not None and self.safety_tolerance > facts.most_tolerant:
            raise ValueError(f"safety_tolerance of {self.model} is at most {facts.most_tolerant}")
        return self
