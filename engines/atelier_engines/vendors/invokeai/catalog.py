"""The SDXL models, LoRAs and ControlNets of a server, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from atelier_engines.errors import ModelMissingError
from atelier_engines.task import ControlType
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.schemas import ModelRecord, StylePreset


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCatalog:
    """Models that graphs can use."""

    mains: Mapping[str, ModelRecord] = field(default_factory=dict)
    """Checkpoints by name, the default first."""
    loras: Mapping[str, ModelRecord] = field(default_factory=dict)
    """LoRAs by name, in the server's order."""
    controlnets: Mapping[ControlType, ModelRecord] = field(default_factory=dict)
    """ControlNets by control type, as configured."""
    style_presets: Mapping[str, StylePreset] = field(default_factory=dict)
    """Style presets by name; of several with one name the first."""


def build_catalog(
    records: Iterable[ModelRecord], config: InvokeAiConfig, presets: Sequence[StylePreset] = ()
) -> ModelCatalog:
    """Select the SDXL models of the server's records.

    Raises:
        ModelMissingError: the server has no SDXL model, or lacks one that the configuration names.
    """
    listed = tuple(records)
    mains, loras, controlnets = (
        _select_type(kind, listed) for kind in ("main", "lora", "controlnet")
    )
    first = config.model or next(iter(mains), "")
    default = _find_model(first, mains, "SDXL model")
    return ModelCatalog(
        mains={default.name: default} | mains,
        loras=loras,
        controlnets={
            ControlType(kind): _find_model(name, controlnets, "SDXL ControlNet")
            for kind, name in config.controlnets.items()
        },
        style_presets={preset.name: preset for preset in reversed(presets)},
    )


def _select_type(kind: str, models: Iterable[ModelRecord]) -> dict[str, ModelRecord]:
    return {model.name: model for model in models if (model.base, model.type) == ("sdxl", kind)}


def _find_model(name: str, known: Mapping[str, ModelRecord], what: str) -> ModelRecord:
    if name in known:
        return known[name]
    missing = f"{what} {name!r}" if name else what
    available = ", ".join(known) or "none"
    raise ModelMissingError(f"the InvokeAI server has no {missing}; available: {available}")
