"""What can be set about an openai engine, and about one of its tasks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.config import Section
from atelier_engines.vendors.price import PriceConfig

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max"]
Background = Literal["auto", "opaque", "transparent"]
_RETIRED = ("dall-e-2", "dall-e-3", "gpt-image-1")


class OpenaiConfig(Section):
    """An openai engine's section in the configuration file."""

    api_key: SecretStr = Field(min_length=1, description="Key of the account: ${OPENAI_API_KEY}.")
    organization: str | None = Field(default=None, description="Organization to bill.")
    project: str | None = Field(default=None, description="Project to bill.")
    base_url: str = Field(
        default="https://api.openai.com/v1",
        pattern="^https?://",
        description="Where the service is; or one that speaks the same protocol.",
    )
    model: str = Field(
        default="gpt-image-2", min_length=1, description="Model that draws; any name is passed on."
    )
    sizes: Literal["any", "fixed"] | None = Field(
        default=None,
        description="any: multiples of 16 up to 3840 x 2160; fixed: the three that all models draw "
        "in. By the model's name when null.",
    )
    quality: Quality | None = Field(
        default=None,
        description="The service's own choice when null; not every model has every one.",
    )
    moderation: Literal["auto", "low"] | None = Field(
        default=None, description="How strictly content is checked; the service's choice when null."
    )
    output_format: Literal["png", "jpeg", "webp"] = Field(
        default="png", description="File format of the pictures."
    )
    partial_images: int = Field(
        default=3,
        ge=0,
        le=3,
        description="Most previews of a picture, sent only if asked for; each is charged. 0 for none.",
    )
    price: PriceConfig | None = Field(
        default=None,
        description="Price to show and to count: amount, unit (image, megapixel, second), currency.",
    )
    max_images: int = Field(
        default=4, ge=1, le=10, description="Most pictures in one task; each is one paid request."
    )
    concurrency: int = Field(default=4, ge=1, le=100, description="Tasks worked on at once.")
    deadline_seconds: float = Field(
        default=300.0, gt=0, description="Longest that one picture may take."
    )

    @model_validator(mode="after")
    def _alive(self) -> Self:
        if self.model in _RETIRED:
            raise ValueError(f"{self.model} is retired; choose another model, such as gpt-image-2")
        return self

    @property
    def any_size(self) -> bool:
        """Whether the model draws in more than the three sizes."""
        if self.sizes is None:
            return self.model.startswith("gpt-image-2")
        return self.sizes == "any"


class OpenaiOptions(Section):
    """Options of one task; what is unset is as configured."""

    quality: Quality | None = Field(default=None, description="Not every model has every one.")
    background: Background | None = Field(
        default=None, description="transparent needs output_format png or webp."
    )
