"""Settings of an openai engine, and options of its tasks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from atelier_engines.config import Section
from atelier_engines.vendors.config import (
    AccountConfig,
    ApiKey,
    BaseUrl,
    MaxImages,
    RemoteConfig,
    TimeoutSeconds,
)
from atelier_engines.vendors.openai.models import find_model, find_shutdown
from atelier_engines.vendors.openai.token_prices import TokenPrices

Quality = Literal["auto", "low", "medium", "high", "xhigh", "max"]
Background = Literal["auto", "opaque", "transparent"]
Moderation = Literal["auto", "low"]
_HOST = "openai.com"


class OpenaiConfig(AccountConfig, RemoteConfig):
    """An openai engine's section in the configuration file."""

    api_key: ApiKey = Field(description="API key of the account: ${OPENAI_API_KEY}.")
    organization: str | None = Field(default=None, description="Organization to bill.")
    project: str | None = Field(default=None, description="Project to bill.")
    base_url: BaseUrl = Field(
        default="https://api.openai.com/v1",
        description="URL of the service, or of one with the same API.",
    )
    model: str = Field(
        default="gpt-image-2", min_length=1, description="Model; any name is passed on."
    )
    sizes: Literal["any", "fixed"] | None = Field(
        default=None,
        description="any: multiples of 16 up to 3840 x 2160; fixed: the three sizes that all models "
        "support. If null, any for the models that are known to support it, else fixed.",
    )
    token_prices: TokenPrices | None = Field(
        default=None,
        description="Prices of one million tokens, by which the cost of a result is computed: text_input, image_input, "
        "image_output, text_output, currency. If null, price counts; without that, OpenAI's list prices, where "
        "they are known and base_url is OpenAI's.",
    )
    quality: Quality | None = Field(
        default=None,
        description="Quality, as far as the model supports it; the service's default when null.",
    )
    moderation: Moderation | None = Field(
        default=None, description="Strictness of moderation; the service's default when null."
    )
    output_format: Literal["png", "jpeg", "webp"] = Field(
        default="png", description="File format of the images."
    )
    partial_images: int = Field(
        default=3,
        ge=0,
        le=3,
        description="Maximum previews per image, requested only if the task wants previews; each is "
        "charged. 0 for none.",
    )
    max_images: MaxImages = Field(default=4, le=10)
    concurrency: int = Field(
        default=4, ge=1, le=100, description="Maximum tasks at the service at once."
    )
    timeout_seconds: TimeoutSeconds = Field(
        default=300.0, description="Maximum time for one image."
    )

    @model_validator(mode="after")
    def _refuse_model_that_was_shut_down(self) -> Self:
        shutdown = find_shutdown(self.model, datetime.now(UTC).date())
        if shutdown is not None and self._is_openai:
            raise ValueError(shutdown.explain(self.model))
        return self

    @property
    def any_size(self) -> bool:
        """Whether the model supports more than the three fixed sizes."""
        if self.sizes is None:
            return find_model(self.model).any_size
        return self.sizes == "any"

    @property
    def moderations(self) -> tuple[Moderation, ...]:
        """What a request may ask for, the strict one first."""
        return ("auto", "low") if self.moderation == "low" else ("auto",)

    @property
    def list_prices(self) -> TokenPrices | None:
        """OpenAI's prices for the model; None where they are not known, and for other services."""
        return find_model(self.model).prices if self._is_openai else None

    @property
    def _is_openai(self) -> bool:
        """Whether the service is OpenAI itself, whose models and prices are known."""
        host = urlsplit(self.base_url).hostname or ""
        return host == _HOST or host.endswith(f".{_HOST}")


class OpenaiOptions(Section):
    """Options of one task; options that are not set are as configured."""

    quality: Quality | None = Field(
        default=None, description="Quality, as far as the model supports it."
    )
    background: Background | None = Field(
        default=None, description="transparent needs output_format png or webp."
    )
    moderation: Moderation | None = Field(
        default=None,
        description="Strictness of moderation, no laxer than the engine is configured with; not with an init image.",
    )
