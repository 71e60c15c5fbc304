"""What can be set about an ideogram engine, and about one of its tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from atelier_engines.config import Section
from atelier_engines.vendors.price import PriceConfig

RenderingSpeed = Literal["FLASH", "TURBO", "DEFAULT", "QUALITY"]
MagicPrompt = Literal["AUTO", "ON", "OFF"]
StyleType = Literal["AUTO", "GENERAL", "REALISTIC", "DESIGN", "FICTION"]


class IdeogramConfig(Section):
    """An ideogram engine's section in the configuration file."""

    api_key: SecretStr = Field(min_length=1, description="Key of the account: ${IDEOGRAM_API_KEY}.")
    base_url: str = Field(
        default="https://api.ideogram.ai", pattern="^https?://", description="Where the service is."
    )
    rendering_speed: RenderingSpeed = Field(
        default="DEFAULT", description="From FLASH, fast and cheap, to QUALITY."
    )
    magic_prompt: MagicPrompt = Field(
        default="OFF",
        description="Whether the service rewrites prompts; then the same seed may give another picture.",
    )
    price: PriceConfig | None = Field(
        default=None,
        description="Price to show and to count: amount, unit (image, megapixel, second), currency.",
    )
    max_images: int = Field(
        default=4, ge=1, le=10, description="Most pictures in one task; each is one paid request."
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Tasks worked on at once. The service takes 10 pictures at once from an account.",
    )
    deadline_seconds: float = Field(
        default=180.0, gt=0, description="Longest that one picture may take."
    )


class IdeogramOptions(Section):
    """Options of one task; what is unset is as configured."""

    rendering_speed: RenderingSpeed | None = Field(
        default=None, description="From FLASH, fast and cheap, to QUALITY."
    )
    magic_prompt: MagicPrompt | None = Field(
        default=None, description="Whether the service rewrites the prompt."
    )
    style_type: StyleType | None = Field(
        default=None, description="Kind of picture; the service's own choice when unset."
    )
    style_preset: str | None = Field(
        default=None,
        pattern="^[A-Z0-9_]{1,64}$",
        description="A look by its name at the service: 80S_ILLUSTRATION, WOODBLOCK_PRINT …",
    )
