"""LoRAs of a network that torch runs while they are active, and another runtime at all other times."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atelier_engines.diffusion.loras.network import AdaptedNetwork
from atelier_engines.diffusion.loras.replacing import LoraStandIn
from atelier_engines.diffusion.loras.weights import LoraWeights


class StandInNetwork:
    """See LoraNetwork."""

    def __init__(self, prefix: str, target: LoraStandIn) -> None:
        """Start without LoRAs, so that the other runtime runs.

        Args:
            prefix: the network's name in the files of LoRAs.
            target: what runs while they are active.
        """
        self.prefix = prefix
        self._target = target
        self._network = AdaptedNetwork(prefix, target.module)
        self._adapters: set[str] = set()
        """Those that change this network."""

    @property
    def module(self) -> torch.nn.Module:
        """See LoraNetwork.module."""
        return self._network.module

    def load(self, adapter: str, lora: LoraWeights) -> None:
        """See LoraNetwork.load."""
        self._network.load(adapter, lora)
        if lora.changes.get(self.prefix):
            self._adapters.add(adapter)

    def set_adapters(self, adapters: Sequence[str], weights: Sequence[float]) -> None:
        """See LoraNetwork.set_adapters."""
        self._network.set_adapters(adapters, weights)
        self._target.in_use = not self._adapters.isdisjoint(adapters)

    def delete(self, adapter: str) -> None:
        """See LoraNetwork.delete."""
        self._network.delete(adapter)
        self._adapters.discard(adapter)
