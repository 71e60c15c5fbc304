"""The directory of models: names of weights that it has stand for paths in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator

from atelier_engines.config import Section

_WEIGHT_KEYS = frozenset(
    {
        *("model", "base", "vae", "variants", "controlnets", "preprocessors", "preview_model"),
        "text_encoder",
        "bge_model",
        *("loras", "lora_directory", "embeddings", "embedding_directory", "upscalers"),
    }
)
"""Keys whose values, also in a mapping, name weights."""


class ModelsDirectory(Section):
    """The key in the section of every engine that has weights on this machine."""

    models_dir: Path | None = Field(
        default=None,
        description="Directory in which relative names of weights are looked up first. Unset: that at the top.",
    )

    @model_validator(mode="before")
    @classmethod
    def _find_weights(cls, values: object) -> object:
        """Replace names of what the directory has by its paths; other names stay as they are."""
        if not isinstance(values, Mapping) or not isinstance(values.get("models_dir"), str | Path):
            return values
        try:
            directory = Path(values["models_dir"]).expanduser()
        except RuntimeError:  # an unknown user, which the field says
            return values
        return _find_in_section(values, directory)


def _find_in_section(values: Mapping[str, object], directory: Path) -> dict[str, object]:
    return {
        key: _find(value, directory)
        if key in _WEIGHT_KEYS
        else _find_in_section(value, directory)
        if isinstance(value, Mapping)
        else value
        for key, value in values.items()
    }


def _find(value: object, directory: Path) -> object:
    match value:
        case Mapping():
            return {key: _find(item, directory) for key, item in value.items()}
        case str() | Path() if (path := directory / value).exists():
            return type(value)(path)
        case _:
            return value
