"""`atelier.json`: what a model's maker wants an engine to know, beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier_engines.errors import ModelMissingError

FILE = "atelier.json"

_Row = tuple[float, float, float]
_Side = Annotated[int, Field(ge=64, multiple_of=8)]


class ModelCard(BaseModel):
    """Advice of the model's maker; everything in it may be absent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    default_steps: int | None = Field(default=None, ge=1, le=150)
    default_guidance: float | None = Field(default=None, ge=0.0, le=30.0)
    default_size: tuple[_Side, _Side] | None = None
    """Width and height in pixels."""
    native_side: tuple[_Side, _Side] | None = None
    """Least and greatest width and height in pixels at which the model draws well; None where it is no narrow range."""
    vocabulary: str = ""
    """The words that the model follows, in lower case, separated by spaces; empty where it is no small number."""
    preview_factors: tuple[_Row, _Row, _Row, _Row] | None = None
    """From the four latent channels, as the denoiser sees them, to red, green, blue of 0 to 1."""
    preview_bias: _Row | None = None
    """Red, green, blue of 0 to 1 of latents that are zero."""


def read(folder: Path) -> ModelCard:
    """The card in `folder`, or an empty one where there is none.

    Raises:
        ModelMissingError: the file is there and broken.
    """
    path = folder / FILE
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return ModelCard()
    except (OSError, ValidationError) as error:
        raise ModelMissingError(f"{path} is no valid model card: {error}") from error
