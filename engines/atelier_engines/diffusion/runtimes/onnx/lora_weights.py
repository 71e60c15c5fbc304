"""The weights of a network that ONNX Runtime runs, as LoRAs replace them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch

from atelier_engines.diffusion.loras.replacing import WeightedLora
from atelier_engines.diffusion.runtimes.graphs.graph import MODULE
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession


class OnnxWeights:
    """See ReplaceableWeights."""

    def __init__(self, session: OnnxSession, create_module: Callable[[], torch.nn.Module]) -> None:
        """Replace the weights of a session that is used by one engine alone.

        Args:
            session: runs the network.
            create_module: returns the network without numbers in its weights.
        """
        self._session = session
        self._create_module = create_module

    @cached_property
    def module(self) -> torch.nn.Module:
        """See ReplaceableWeights.module."""
        return self._create_module()

    @cached_property
    def names(self) -> frozenset[str]:
        """See ReplaceableWeights.names."""
        found = self._session.list_weights()
        return frozenset(name.removeprefix(MODULE) for name in found if name.startswith(MODULE))

    def use(self, loras: Sequence[WeightedLora]) -> None:
        """See ReplaceableWeights.use."""
        self._session.use(loras)

    def forget(self, adapter: str) -> None:
        """See ReplaceableWeights.forget."""
        self._session.forget(adapter)
