"""The settings of a sketch engine, and the options of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from atelier_engines.config import Section

PlaceholderStyle = Literal["simple", "detailed", "debug"]
Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]
_MAX_DELAY_SECONDS = 3600.0
_MIN_OUTPUT_BYTES = 8192
"""Bytes; enough for a plain PNG of the largest size."""
_MAX_OUTPUT_BYTES = 64 * 2**20


class SketchConfig(Section):
    """The section of a sketch engine in the configuration file."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"pictures": "image_directory"}

    delay_seconds: float = Field(
        default=0.0,
        ge=0,
        le=_MAX_DELAY_SECONDS,
        description="Seconds that a task takes beyond the work itself, spread over its steps.",
    )
    fail_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Fraction of tasks that fail. The seed decides which: the same seed always "
        "fails or never does.",
    )
    hang: bool = Field(
        default=False, description="Never finish a step; tasks wait until they are cancelled."
    )
    image_directory: Path | None = Field(
        default=None,
        description="Folder of PNG, JPEG and WebP images to choose from by seed instead of "
        "drawing; they are cropped to the requested size.",
    )
    output_bytes: int | None = Field(
        default=None,
        ge=_MIN_OUTPUT_BYTES,
        le=_MAX_OUTPUT_BYTES,
        description="Return one plain PNG of exactly so many bytes instead of drawing, at almost no "
        "cost: for measuring the service around the engine.",
    )
    placeholder_style: PlaceholderStyle = Field(
        default="detailed",
        description="How images are drawn: simple, one colour with the prompt; detailed, a gradient "
        "with shapes; debug, detailed with the decided task written on it.",
    )
    colors: tuple[Color, ...] = Field(
        default=(),
        max_length=64,
        description="Colours to draw with, as `#rrggbb`, chosen by seed and prompt; any colour when empty.",
    )
    preview_pixels: int = Field(
        default=256, ge=16, le=512, description="Longest side of a preview, in pixels."
    )
    concurrency: int = Field(default=4, ge=1, le=256, description="Tasks worked on at once.")
    price_per_image: float | None = Field(
        default=None,
        ge=0,
        description="Price in US dollars to show for an image; free when unset.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.image_directory is not None and self.output_bytes is not None:
            raise ValueError("set image_directory or output_bytes, not both")
        drawn = self.image_directory is None and self.output_bytes is None
        if not drawn and (self.colors or self.placeholder_style != "detailed"):
            raise ValueError("colors and placeholder_style are for drawn images: unset the others")
        return self


class SketchOptions(BaseModel):
    """The options of one task; unset ones are as configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_seconds: float | None = Field(
        default=None,
        ge=0,
        le=_MAX_DELAY_SECONDS,
        description="Seconds that the task takes beyond the work itself, spread over its steps.",
    )
    fail: bool | None = Field(
        default=None, description="Whether the task fails, whatever its seed says."
    )
    hang: bool | None = Field(default=None, description="Whether the task never finishes a step.")
    font_size: int | None = Field(
        default=None,
        ge=6,
        le=256,
        description="Height of the text in pixels; follows the size of the image when unset.",
    )
