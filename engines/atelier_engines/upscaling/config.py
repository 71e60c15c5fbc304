"""What can be set about enlarging pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from atelier_engines.config import Section

LANCZOS = "lanczos"
"""The upscaler that is always there."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class UpscalerSettings(Section):
    """The keys that every engine with upscalers has in its section."""

    upscalers: dict[_Name, Path] = Field(
        default_factory=dict,
        description="Networks that enlarge pictures: a name, and the `.safetensors` file of its "
        "weights, of ESRGAN's family or another that `spandrel` knows. The first is the default; "
        "`lanczos`, which needs no weights, is always there.",
    )
    upscale_tile: int = Field(
        default=512,
        ge=64,
        le=4096,
        description="Side of the tiles, in pixels before enlarging, in which a network works "
        "through a picture. Less needs less memory and more time.",
    )
    upscale_overlap: int = Field(
        default=32,
        ge=8,
        le=256,
        description="Pixels by which neighbouring tiles overlap, so that no seam shows.",
    )

    @field_validator("upscalers")
    @classmethod
    def _unreserved(cls, upscalers: dict[str, Path]) -> dict[str, Path]:
        if LANCZOS in upscalers:
            raise ValueError(f"{LANCZOS} is always there and needs no file; choose another name")
        return {name: path.expanduser() for name, path in upscalers.items()}

    @model_validator(mode="after")
    def _room_between_overlaps(self) -> Self:
        if 2 * self.upscale_overlap > self.upscale_tile:
            raise ValueError("upscale_overlap must be at most half of upscale_tile")
        return self


class UpscaleConfig(UpscalerSettings):
    """The section of an `upscale` engine in the configuration file."""

    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description="Where networks work: `cpu`, `cuda`, `cuda:1` …; `auto` takes the first CUDA "
        "device, else the CPU.",
    )
    precision: Precision = Field(
        default="auto",
        description="What networks compute in; `auto` is float32 on the CPU and float16 on CUDA. "
        "A network that cannot work in it uses float32.",
    )
