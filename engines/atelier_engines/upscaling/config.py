"""The settings of upscaling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from atelier_engines.config import Section
from atelier_engines.local.config import Precision
from atelier_engines.local.models_directory import ModelsDirectory

LANCZOS = "lanczos"
"""The upscaler that every engine has."""

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class UpscalerSettings(Section):
    """The keys in the section of every engine with upscalers."""

    upscalers: dict[_Name, Path] = Field(
        default_factory=dict,
        description="Super-resolution models: a name, and the `.safetensors` file of its "
        "weights, of ESRGAN's family or another that `spandrel` knows. The first is the default; "
        "`lanczos`, which needs no weights, is always available.",
    )
    upscale_tile: int = Field(
        default=512,
        ge=64,
        le=4096,
        description="Side of the tiles, in pixels before upscaling, in which a model upscales "
        "an image. Smaller tiles take less memory and more time.",
    )
    upscale_overlap: int = Field(
        default=32,
        ge=8,
        le=256,
        description="Pixels by which neighbouring tiles overlap, so that no seam is visible.",
    )

    @field_validator("upscalers")
    @classmethod
    def _unreserved(cls, upscalers: dict[str, Path]) -> dict[str, Path]:
        if LANCZOS in upscalers:
            raise ValueError(f"{LANCZOS} is built in and needs no file; choose another name")
        return {name: path.expanduser() for name, path in upscalers.items()}

    @model_validator(mode="after")
    def _room_between_overlaps(self) -> Self:
        if 2 * self.upscale_overlap > self.upscale_tile:
            raise ValueError("upscale_overlap must be at most half of upscale_tile")
        return self


class UpscaleConfig(UpscalerSettings, ModelsDirectory):
    """The section of an `upscale` engine in the configuration file."""

    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$",
        description="Where models run: `cpu`, `cuda`, `cuda:1` …; `auto` takes the first CUDA "
        "device, else the CPU.",
    )
    precision: Precision = Field(
        default="auto",
        description="Data type of the models; `auto` is float32 on the CPU and float16 on CUDA. "
        "A model that does not support it uses float32.",
    )
