"""The scales that a LoRA's file states apart from its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft.utils.other import get_pattern_key

from atelier_engines.diffusion.loras.names import DENOISER, Layer
from atelier_engines.errors import ModelMissingError

_METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers' trainers write PEFT's configuration, each key with the component in front."""
_PEFT_FILE, _PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's own names of the two files of a LoRA."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """PEFT's configuration of the components; without one, a layer has the scale 1."""

    components: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str]) -> TrainingSettings:
        """The settings of a file.

        Raises:
            ModelMissingError: they are broken.
        """
        beside = path.parent / _PEFT_CONFIG
        try:
            if _METADATA_KEY in metadata:
                return cls(_by_component(json.loads(metadata[_METADATA_KEY])))
            if path.name == _PEFT_FILE and beside.is_file():
                return cls({DENOISER: dict(json.loads(beside.read_text()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelMissingError(
                f"the settings of the LoRA in {path.name} are broken"
            ) from error
        return cls({})

    def alpha(self, layer: Layer) -> float | None:
        """A layer's alpha; None if none is stated."""
        settings = self.components.get(layer.network, {})
        alpha = settings.get("lora_alpha")
        patterns = settings.get("alpha_pattern") or {}
        if patterns:
            alpha = patterns.get(get_pattern_key(list(patterns), layer.place), alpha)
        return None if alpha is None else float(alpha)

    def rank_stabilized(self, layer: Layer) -> bool:
        """Whether alpha is divided by the root of the rank."""
        return bool(self.components.get(layer.network, {}).get("use_rslora", False))


def _by_component(flat: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    components: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        component, _, name = key.partition(".")
        components.setdefault(component, {})[name] = value
    return components
