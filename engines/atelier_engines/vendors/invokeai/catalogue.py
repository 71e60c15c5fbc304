"""The SDXL models of a server, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from atelier_engines.errors import ModelMissingError
from atelier_engines.task import ControlType
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.wire import ModelRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a graph can be made of."""

    mains: Mapping[str, ModelRecord] = field(default_factory=dict)
    """Whole models, the default first."""
    loras: Mapping[str, ModelRecord] = field(default_factory=dict)
    """In the server's order."""
    controlnets: Mapping[ControlType, ModelRecord] = field(default_factory=dict)
    """As the configuration assigns them."""


def catalogue_of(models: Iterable[ModelRecord], config: InvokeAiConfig) -> Catalogue:
    """What the server has, in the light of the configuration.

    Raises:
        ModelMissingError: it has no SDXL model, or lacks one that the configuration names.
    """
    listed = tuple(models)
    mains, loras, controlnets = (_of_type(kind, listed) for kind in ("main", "lora", "controlnet"))
    first = config.model or next(iter(mains), "")
    default = _named(first, mains, "SDXL model")
    return Catalogue(
        mains={default.name: default} | mains,
        loras=loras,
        controlnets={
            ControlType(kind): _named(name, controlnets, "SDXL ControlNet")
            for kind, name in config.controlnets.items()
        },
    )


def _of_type(kind: str, models: Iterable[ModelRecord]) -> dict[str, ModelRecord]:
    return {model.name: model for model in models if (model.base, model.type) == ("sdxl", kind)}


def _named(name: str, known: Mapping[str, ModelRecord], what: str) -> ModelRecord:
    if name in known:
        return known[name]
    has = ", ".join(known) or "none"
    asked = f"{what} {name!r}" if name else what
    raise ModelMissingError(f"the InvokeAI server has no {asked}; it has {has}")
