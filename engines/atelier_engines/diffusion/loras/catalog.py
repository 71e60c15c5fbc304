"""Finds the files of the LoRAs that an engine offers."""

from __future__ import annotations

from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.errors import ModelMissingError, UnsupportedError
from atelier_engines.local.weights import sources


class LoraCatalog:
    """Finds LoRAs by name. A caller's name is only looked up, and never becomes part of a path."""

    def __init__(self, config: DiffusionConfig) -> None:
        """Find all of them, and download them if needed and allowed.

        Raises:
            ModelMissingError: one is absent, or no safetensors file.
        """
        directory = config.lora_directory
        if directory is not None and not Path(directory).expanduser().is_dir():
            raise ModelMissingError(f"lora_directory: there is no directory {directory}")
        self._files = {
            name: resolve_lora(name, source, download=config.download)
            for name, source in config_loras.sources(config).items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the LoRAs that the engine offers."""
        return tuple(self._files)

    def file(self, name: str) -> Path:
        """The file of a LoRA.

        Raises:
            UnsupportedError: there is no LoRA of that name.
        """
        if name not in self._files:
            known = ", ".join(self._files) or "none"
            raise UnsupportedError("loras", f"there is no LoRA {name!r} here; there is {known}")
        return self._files[name]


def resolve_lora(name: str, source: str, *, download: bool) -> Path:
    """The file of a LoRA.

    Args:
        name: its name, for messages.
        source: a path or a hub id, as configured.
        download: whether what is not in the local cache may be downloaded.

    Raises:
        ModelMissingError: there is none, or it is not a safetensors file.
    """
    hub = sources.parse_hub_reference(source)
    if hub is not None and hub.file is None:
        source = f"{source}/{config_loras.FILE}"
    try:
        path = sources.resolve_component(source, "", download=download)
    except ModelMissingError as error:
        raise ModelMissingError(f"the LoRA {name}: {error}") from error
    if path.is_file():
        return path
    found = config_loras.find_file(path)
    if found is None:
        raise ModelMissingError(
            f"the LoRA {name}: {path} holds neither {config_loras.FILE} nor exactly one "
            f"{config_loras.SUFFIX} file; name the file"
        )
    return found
