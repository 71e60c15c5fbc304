"""The files of the LoRAs that an engine offers."""

from __future__ import annotations

from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras import offered
from atelier_engines.diffusion.weights import sources
from atelier_engines.errors import ModelMissingError, UnsupportedError


class Library:
    """Finds LoRAs by name. Callers' words are looked up and never become part of a path."""

    def __init__(self, config: DiffusionConfig) -> None:
        """Find them all, downloaded if need be and allowed.

        Raises:
            ModelMissingError: one is absent, or no safetensors file.
        """
        directory = config.lora_directory
        if directory is not None and not Path(directory).expanduser().is_dir():
            raise ModelMissingError(f"lora_directory: there is no directory {directory}")
        self._files = {
            name: _locate(name, source, config) for name, source in offered.sources(config).items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The LoRAs that can be asked for."""
        return tuple(self._files)

    def file(self, name: str) -> Path:
        """The file of a LoRA.

        Raises:
            UnsupportedError: there is none of that name.
        """
        if name not in self._files:
            known = ", ".join(self._files) or "none"
            raise UnsupportedError("loras", f"there is no LoRA {name!r} here; there is {known}")
        return self._files[name]


def _locate(name: str, source: str, config: DiffusionConfig) -> Path:
    hub = sources.hub_name(source)
    if hub is not None and hub.file is None:
        source = f"{source}/{offered.FILE}"
    try:
        path = sources.locate_network(source, "", config)
    except ModelMissingError as error:
        raise ModelMissingError(f"the LoRA {name}: {error}") from error
    if path.is_file():
        return path
    found = offered.file_in(path)
    if found is None:
        raise ModelMissingError(
            f"the LoRA {name}: {path} holds neither {offered.FILE} nor exactly one "
            f"{offered.SUFFIX} file; name the file"
        )
    return found
