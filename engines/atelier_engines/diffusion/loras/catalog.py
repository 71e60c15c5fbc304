"""Finds the files of the LoRAs that an engine offers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.diffusion.loras.trigger_words import read_trigger_words
from atelier_engines.errors import ModelMissingError, UnsupportedError
from atelier_engines.local.weights import named_files


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
        if directory is not None:
            named_files.log_unnamed(Path(directory).expanduser(), config_loras.KIND)
        self._files = {
            name: named_files.resolve(
                name,
                source,
                config_loras.KIND,
                download=config.download,
                cache=config_loras.find_cache(config),
            )
            for name, source in config_loras.sources(config).items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the LoRAs that the engine offers."""
        return tuple(self._files)

    @property
    def trigger_words(self) -> Mapping[str, tuple[str, ...]]:
        """The words that the files of LoRAs have for prompts, by LoRA."""
        found = {name: read_trigger_words(path) for name, path in self._files.items()}
        return {name: words for name, words in found.items() if words}

    def file(self, name: str) -> Path:
        """The file of a LoRA.

        Raises:
            UnsupportedError: there is no LoRA of that name.
        """
        if name not in self._files:
            known = ", ".join(self._files) or "none"
            raise UnsupportedError("loras", f"there is no LoRA {name!r} here; there is {known}")
        return self._files[name]
