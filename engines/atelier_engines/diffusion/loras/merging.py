"""Merges changes of weights into a component while they are active."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from atelier_engines.diffusion.loras.changes import LayerChange
from atelier_engines.local.torch_module import count_reloads

Active = Sequence[tuple[str, float]]
"""Names of LoRAs and their weights, in their order."""


class MergedWeights:
    """The weights of a component, with the changes of the active LoRAs.

    They are merged when the component runs next: only then are its weights sure to be loaded, and on their
    device. The original weights are kept in main memory meanwhile, and exchanged for the merged ones; so what
    comes back is the original to the bit.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        """Start with the original weights of the component."""
        self._module = module
        self._changes: dict[str, Mapping[str, LayerChange]] = {}
        self._active: tuple[tuple[str, float], ...] = ()
        self._originals: dict[tuple[str, str], torch.Tensor] = {}
        self._merged: tuple[tuple[str, float], ...] = ()
        self._reloads = 0
        self._hooked = False

    def add(self, name: str, changes: Mapping[str, LayerChange]) -> None:
        """Keep a LoRA's changes, by the layer's name, for when it is active."""
        if not changes:
            return
        self._changes[name] = changes
        if not self._hooked:
            self._module.register_forward_pre_hook(lambda _module, _inputs: self._update())
            self._hooked = True

    def remove(self, name: str) -> None:
        """Forget the changes of a LoRA that is not active."""
        self._changes.pop(name, None)

    def activate(self, loras: Active) -> None:
        """Have these LoRAs' changes in the weights, and no others; those that are not known here are ignored."""
        self._active = tuple((name, weight) for name, weight in loras if name in self._changes)

    def _update(self) -> None:
        """Merge what is active; if torch fails, the weights are the original ones."""
        reloads = count_reloads(self._module)
        if reloads != self._reloads:
            self._originals.clear()
            self._merged, self._reloads = (), reloads
        if self._merged == self._active:
            return
        # Parameters made in inference mode could not be changed outside of it.
        with torch.inference_mode(mode=False), torch.no_grad():
            self._restore()
            try:
                for place in dict.fromkeys(
                    p for name, _ in self._active for p in self._changes[name]
                ):
                    self._merge(place)
            except BaseException:
                self._restore()
                raise
        self._merged = self._active

    def _merge(self, place: str) -> None:
        layer = own_layer(self._module, place)
        changes = [
            (self._changes[name][place], weight)
            for name, weight in self._active
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
        self._merged = ()


def merged_parameters(
    layer: torch.nn.Module, changes: Sequence[tuple[LayerChange, float]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """A layer's weight and bias with these changes at their weights, by name; only those that change.

    Each change is that of the original weights, so the order matters for rounding at most.
    """
    found = (layer.weight, getattr(layer, "bias", None))
    weight, bias = (one if isinstance(one, torch.Tensor) else None for one in found)
    yield from merged_tensors(weight, bias, changes)


def merged_tensors(
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    changes: Sequence[tuple[LayerChange, float]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """As `merged_parameters`, of a layer with this weight and this bias."""
    if weight is not None:
        own = weight.detach().float()
        made = [(change.difference(own), factor) for change, factor in changes]
        yield from _sum("weight", weight, made)
    if bias is not None:
        yield from _sum("bias", bias, [(change.bias(), factor) for change, factor in changes])


def own_layer(module: torch.nn.Module, place: str) -> torch.nn.Module:
    """The component's layer of that name, without PEFT's around it."""
    layer = module.get_submodule(place)
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer


def weight_shape(layer: torch.nn.Module) -> tuple[int, ...]:
    """The shape of a layer's weight, also while the weight itself is dropped; PEFT's layers have their own's."""
    match layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer:
        case torch.nn.Linear(out_features=rows, in_features=columns):
            return rows, columns
        case torch.nn.Conv2d() as own:
            return own.out_channels, own.in_channels // own.groups, *own.kernel_size
        case torch.nn.GroupNorm(num_channels=channels):
            return (channels,)
        case torch.nn.LayerNorm(normalized_shape=shape):
            return tuple(shape)
        case other:
            weight = other.weight
            return tuple(weight.shape) if isinstance(weight, torch.Tensor) else ()


def _sum(
    kind: str, own: torch.Tensor, made: Sequence[tuple[torch.Tensor | None, float]]
) -> Iterator[tuple[str, torch.Tensor]]:
    total = own.detach().float()
    for difference, factor in made:
        if difference is not None:
            total = total + difference.to(total) * factor
    if any(difference is not None for difference, _ in made):
        yield kind, total.to(own.dtype)
