"""The LoRAs that a configuration offers, without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights_config import TINY
from atelier_engines.local.weights.addresses import AddressCache
from atelier_engines.local.weights.named_files import FileKind, list_directory

KIND = FileKind(title="LoRA", usual_file="pytorch_lora_weights.safetensors")


def sources(config: DiffusionConfig) -> Mapping[str, str]:
    """The source of each LoRA, in the order of the names.

    LoRAs configured by name take precedence over those in `lora_directory`, and these over those that come
    with the small model.
    """
    found = {name: str(path) for name, path in _tiny(config).items()}
    if config.lora_directory is not None:
        found |= list_directory(Path(config.lora_directory).expanduser(), KIND)
    found |= config.loras
    return dict(sorted(found.items()))


def names(config: DiffusionConfig) -> tuple[str, ...]:
    """Names of the LoRAs that callers can use."""
    return tuple(sources(config))


def find_cache(config: DiffusionConfig) -> AddressCache:
    """Where LoRAs with an address are kept: in the directory of models, if there is one."""
    directory = config.models_dir or Path("~/.cache/atelier").expanduser()
    return AddressCache(directory=directory / "downloads", hosts=config.lora_hosts)


def max_loras(config: DiffusionConfig) -> int:
    """Maximum number of LoRAs in one task; 0 where there are none."""
    return config.max_loras if sources(config) else 0


def features(config: DiffusionConfig) -> frozenset[ImageFeature]:
    """The features that LoRAs add to an engine."""
    return frozenset({ImageFeature.LORA}) if sources(config) else frozenset()


def _tiny(config: DiffusionConfig) -> Mapping[str, object]:
    if config.model != TINY:
        return {}
    try:
        import atelier_tiny  # noqa: PLC0415  (only this model needs the package)
    except ImportError:  # said when the model itself is looked for
        return {}
    found: Mapping[str, object] = getattr(atelier_tiny, "LORAS", {})
    return found
