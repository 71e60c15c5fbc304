"""Settings of an ideogram engine, and options of its tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from atelier_engines.config import Section
from atelier_engines.vendors.config import (
    AccountConfig,
    ApiKey,
    BaseUrl,
    MaxImages,
    RemoteConfig,
    TimeoutSeconds,
)

RenderingSpeed = Literal["FLASH", "TURBO", "DEFAULT", "QUALITY"]
MagicPrompt = Literal["AUTO", "ON", "OFF"]
StyleType = Literal["AUTO", "GENERAL", "REALISTIC", "DESIGN", "FICTION"]


class IdeogramConfig(AccountConfig, RemoteConfig):
    """An ideogram engine's section in the configuration file."""

    api_key: ApiKey = Field(description="API key of the account: ${IDEOGRAM_API_KEY}.")
    base_url: BaseUrl = "https://api.ideogram.ai"
    rendering_speed: RenderingSpeed = Field(
        default="DEFAULT", description="From FLASH, fast and cheap, to QUALITY."
    )
    magic_prompt: MagicPrompt = Field(
        default="OFF",
        description="Whether the service rewrites prompts; if so, a seed no longer repeats an image.",
    )
    max_images: MaxImages = Field(default=4, le=10)
    concurrency: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Maximum tasks at the service at once; it generates 10 images of an account at once.",
    )
    timeout_seconds: TimeoutSeconds = Field(
        default=180.0, description="Maximum time for one image."
    )


class IdeogramOptions(Section):
    """Options of one task; options that are not set are as configured."""

    rendering_speed: RenderingSpeed | None = Field(
        default=None, description="From FLASH, fast and cheap, to QUALITY."
    )
    magic_prompt: MagicPrompt | None = Field(
        default=None, description="Whether the service rewrites the prompt."
    )
    style_type: StyleType | None = Field(
        default=None, description="Style of the image; the service's default when unset."
    )
    style_preset: str | None = Field(
        default=None,
        pattern="^[A-Z0-9_]{1,64}$",
        description="Name of a style preset of the service: 80S_ILLUSTRATION, WOODBLOCK_PRINT …",
    )
