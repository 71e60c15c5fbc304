"""The LoRAs that a configuration offers, without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights_config import TINY

SUFFIX = ".safetensors"
FILE = "pytorch_lora_weights.safetensors"
"""diffusers' name of the file in a LoRA's directory."""


def sources(config: DiffusionConfig) -> Mapping[str, str]:
    """The source of each LoRA, in the order of the names.

    LoRAs configured by name take precedence over those in `lora_directory`, and these over those that come
    with the small model.
    """
    found = {name: str(path) for name, path in _tiny(config).items()}
    if config.lora_directory is not None:
        found |= _list_directory(Path(config.lora_directory).expanduser())
    found |= config.loras
    return dict(sorted(found.items()))


def names(config: DiffusionConfig) -> tuple[str, ...]:
    """Names of the LoRAs that callers can use."""
    return tuple(sources(config))


def max_loras(config: DiffusionConfig) -> int:
    """Maximum number of LoRAs in one task; 0 where there are none."""
    return config.max_loras if sources(config) else 0


def features(config: DiffusionConfig) -> frozenset[ImageFeature]:
    """The features that LoRAs add to an engine."""
    return frozenset({ImageFeature.LORA}) if sources(config) else frozenset()


def find_file(folder: Path) -> Path | None:
    """Find the LoRA in a directory: the file with diffusers' name, else the only one."""
    if (folder / FILE).is_file():
        return folder / FILE
    found = list(folder.glob(f"*{SUFFIX}"))
    return found[0] if len(found) == 1 else None


def _list_directory(directory: Path) -> Mapping[str, str]:
    """List the files by stem, and the directories that contain one."""
    if not directory.is_dir():  # said at the start
        return {}
    found: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        if path.is_dir() and find_file(path) is not None:
            found[path.name] = str(path)
        elif path.suffix == SUFFIX and path.is_file():
            found[path.stem] = str(path)
    return found


def _tiny(config: DiffusionConfig) -> Mapping[str, object]:
    if config.model != TINY:
        return {}
    try:
        import atelier_tiny  # noqa: PLC0415  (only this model needs the package)
    except ImportError:  # said when the model itself is looked for
        return {}
    found: Mapping[str, object] = getattr(atelier_tiny, "LORAS", {})
    return found
