"""LoRAs of a network whose runtime is given other weights as a whole, since it runs no layers of torch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from atelier_engines.diffusion.loras.changes import LayerChange
from atelier_engines.diffusion.loras.weights import LoraWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedLora:
    """A LoRA as it is active in one network."""

    adapter: str
    """Tells it from all others that the network was given."""
    weight: float
    """What its changes are multiplied by."""
    changes: Mapping[str, LayerChange]
    """What it changes at a weight of 1, by the layer's name."""


class ReplaceableWeights(Protocol):
    """The weights of a network, of which others may take the place. Used by one thread at a time."""

    @property
    def module(self) -> torch.nn.Module:
        """Its layers with their names and shapes; their weights have no numbers."""

    @property
    def names(self) -> frozenset[str]:
        """The weights that can be replaced: a layer's name and `weight` or `bias`, with a dot between."""

    def use(self, loras: Sequence[WeightedLora]) -> None:
        """Run with these LoRAs merged into the original weights from now on."""

    def forget(self, adapter: str) -> None:
        """Free what is kept for a LoRA that is not in use."""


@dataclass(slots=True, kw_only=True)
class LoraStandIn:
    """A network of torch's that runs while LoRAs are active, in the place of what has its weights compiled into it."""

    module: torch.nn.Module
    """The network, whose layers LoRAs change."""
    in_use: bool = False
    """Whether a LoRA that changes it is active."""


LoraTarget = torch.nn.Module | ReplaceableWeights | LoraStandIn
"""What LoRAs change: a module's layers, the weights of what another runtime runs, or what runs in its place."""


class ReplacingNetwork:
    """See LoraNetwork: the part of LoRAs that changes one network."""

    def __init__(self, prefix: str, weights: ReplaceableWeights) -> None:
        """Start with the original weights.

        Args:
            prefix: the network's name in the files of LoRAs.
            weights: what is replaced.
        """
        self.prefix = prefix
        self._weights = weights
        self._changes: dict[str, Mapping[str, LayerChange]] = {}

    @property
    def module(self) -> torch.nn.Module:
        """See LoraNetwork.module."""
        return self._weights.module

    def load(self, adapter: str, lora: LoraWeights) -> None:
        """See LoraNetwork.load.

        Raises:
            ValueError: it changes a weight that cannot be replaced.
        """
        changes = lora.changes.get(self.prefix, {})
        for place, change in changes.items():
            for name in _list_changed(place, change):
                if name not in self._weights.names:
                    raise ValueError(f"the runtime of {self.prefix} cannot change its {name}")
        if changes:
            self._changes[adapter] = changes

    def set_adapters(self, adapters: Sequence[str], weights: Sequence[float]) -> None:
        """See LoraNetwork.set_adapters."""
        self._weights.use(
            [
                WeightedLora(adapter=adapter, weight=weight, changes=self._changes[adapter])
                for adapter, weight in zip(adapters, weights, strict=True)
                if adapter in self._changes
            ]
        )

    def delete(self, adapter: str) -> None:
        """See LoraNetwork.delete."""
        if self._changes.pop(adapter, None) is not None:
            self._weights.forget(adapter)


def _list_changed(place: str, change: LayerChange) -> list[str]:
    """The names of the weights that a change of a layer changes."""
    found = [f"{place}.weight"] if any(part != "diff_b" for part in change.parts) else []
    return [*found, f"{place}.bias"] if change.bias() is not None else found
