"""Merges changes of weights into a component while they are active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from atelier_engines.diffusion.loras.changes import LayerChange

Active = Sequence[tuple[str, float]]
"""Names of LoRAs and their weights, in their order."""


class MergedWeights:
    """The weights of a component, with the changes of the active LoRAs.

    The original weights are kept in main memory meanwhile, and exchanged for the merged ones; so what comes
    back is the original to the bit.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        """Start with the original weights of the component."""
        self._module = module
        self._changes: dict[str, Mapping[str, LayerChange]] = {}
        self._originals: dict[tuple[str, str], torch.Tensor] = {}
        self._active: tuple[tuple[str, float], ...] = ()

    def add(self, name: str, changes: Mapping[str, LayerChange]) -> None:
        """Keep a LoRA's changes, by the layer's name, for when it is active."""
        if changes:
            self._changes[name] = changes

    def remove(self, name: str) -> None:
        """Forget a LoRA's changes."""
        self._changes.pop(name, None)

    def activate(self, loras: Active) -> None:
        """Have these LoRAs' changes in the weights, and no others; those that are not known here are ignored.

        Raises:
            Exception: whatever torch raises; the weights are the original ones then.
        """
        active = tuple((name, weight) for name, weight in loras if name in self._changes)
        if active == self._active:
            return
        self._restore()
        try:
            for place in dict.fromkeys(p for name, _ in active for p in self._changes[name]):
                self._merge(place, active)
        except BaseException:
            self._restore()
            raise
        self._active = active

    def _merge(self, place: str, active: Active) -> None:
        layer = own_layer(self._module, place)
        changes = [
            (self._changes[name][place], weight)
            for name, weight in active
            if place in self._changes[name]
        ]
        for kind, merged in merged_parameters(layer, changes):
            parameter = getattr(layer, kind)
            self._originals[place, kind] = parameter.data.to("cpu")
            parameter.data = merged

    def _restore(self) -> None:
        for (place, kind), original in self._originals.items():
            parameter = getattr(own_layer(self._module, place), kind)
            parameter.data = original.to(parameter.device)
        self._originals.clear()
        self._active = ()


def merged_parameters(
    layer: torch.nn.Module, changes: Sequence[tuple[LayerChange, float]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """A layer's weight and bias with these changes at their weights, by name; only those that change.

    Each change is that of the original weights, so the order matters for rounding at most.
    """
    weight, bias = layer.weight, getattr(layer, "bias", None)
    if isinstance(weight, torch.Tensor):
        own = weight.detach().float()
        made = [(change.difference(own), factor) for change, factor in changes]
        yield from _sum("weight", weight, made)
    if isinstance(bias, torch.Tensor):
        yield from _sum("bias", bias, [(change.bias(), factor) for change, factor in changes])


def own_layer(module: torch.nn.Module, place: str) -> torch.nn.Module:
    """The component's layer of that name, without PEFT's around it."""
    layer = module.get_submodule(place)
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer


def _sum(
    kind: str, own: torch.Tensor, made: Sequence[tuple[torch.Tensor | None, float]]
) -> Iterator[tuple[str, torch.Tensor]]:
    total = own.detach().float()
    for difference, factor in made:
        if difference is not None:
            total = total + difference.to(total) * factor
    if any(difference is not None for difference, _ in made):
        yield kind, total.to(own.dtype)
