"""Finds the files of a model in diffusers' layout: a folder for each component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header, sources

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_OF_A_PART = ("config.json", "*.safetensors", "*.index.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """The files of one model."""

    folder: Path
    """Has a folder for each component."""
    parts: tuple[str, ...]
    """The components that have weights."""

    def list_weights(self, part: str) -> tuple[Path, ...]:
        """The weights of a component."""
        return tuple(sorted((self.folder / part).glob(f"*{sources.SAFETENSORS_SUFFIX}")))

    @property
    def weights(self) -> tuple[Path, ...]:
        """The weights of all components."""
        return tuple(sorted(path for part in self.parts for path in self.list_weights(part)))

    def digest(self) -> str:
        """SHA-256 over the weights; takes as long as reading them."""
        return digests.digest_folder(self.folder, self.weights)

    def read_settings(self, name: str, kind: type[ConfigT]) -> ConfigT:
        """The settings in a file of the folder.

        Raises:
            ModelMissingError: the file is absent or broken, or of another kind.
        """
        path = self.folder / name
        try:
            return kind.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ModelMissingError(f"{path} is not usable: {where} {first['msg']}") from error


def find_folder(
    source: str, parts: tuple[str, ...], others: Sequence[str], *, download: bool
) -> ModelFolder:
    """The files of a model, downloaded where that is needed and allowed.

    The original layout may lie beside them on the hub, and would be downloaded for nothing.

    Args:
        source: a directory, or a hub id.
        parts: the components that have weights.
        others: patterns of the files that are needed beside them.
        download: whether it may be downloaded.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    patterns = (*(f"{part}/{name}" for part in parts for name in _OF_A_PART), *others)
    found = ModelFolder(
        folder=sources.resolve_folder(source, patterns, download=download), parts=parts
    )
    for part in parts:
        if not found.list_weights(part):
            raise ModelMissingError(
                f"there are no {sources.SAFETENSORS_SUFFIX} weights in {found.folder / part}"
            )
    for path in found.weights:
        safetensors_header.read(path)
    return found
