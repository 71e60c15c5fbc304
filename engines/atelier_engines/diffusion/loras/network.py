"""Adds LoRAs to one component of a model, and removes them without a trace."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from diffusers.utils.peft_utils import delete_adapter_layers, set_weights_and_activate_adapters
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from atelier_engines.diffusion.loras.changes import LayerChange
from atelier_engines.diffusion.loras.merging import MergedWeights, own_layer, weight_shape
from atelier_engines.diffusion.loras.weights import LoraWeights

# It reports other LoRAs of the same text encoder as missing in the file; tensors that are really missing, or
# of another shape, were found before.
logging.getLogger("transformers.integrations.peft").setLevel(logging.ERROR)


class AdaptedNetwork:
    """A component of a model whose layers LoRAs change.

    Plain LoRAs run beside the layers, in PEFT's; all others are merged into the weights while they are active.
    Without active LoRAs it is exactly the original: the layers that PEFT wraps around its own are removed, and
    merged weights are exchanged for the original ones.
    """

    def __init__(self, prefix: str, module: torch.nn.Module) -> None:
        """Start with the original component.

        Args:
            prefix: its name in the files of LoRAs.
            module: the component.
        """
        self.prefix = prefix
        self.module = module
        self._wrapped: dict[str, torch.nn.Module] = {}
        """PEFT's layers by their name in the module, while they are removed."""
        self._adapters: set[str] = set()
        self._merged = MergedWeights(module)

    def load(self, adapter: str, lora: LoraWeights) -> None:
        """Add the part of a LoRA that targets this component.

        Raises:
            Exception: whatever PEFT raises; the LoRA is removed again.
        """
        changes = lora.changes.get(self.prefix, {})
        plain = {place: one for place, one in changes.items() if self._runs_beside(place, one)}
        self._merged.add(adapter, {p: one for p, one in changes.items() if p not in plain})
        if not plain:
            return
        self._attach()
        self._adapters.add(adapter)
        try:
            with warnings.catch_warnings():
                # More than one LoRA is intended here.
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                self._inject(adapter, plain)
        except BaseException:
            self.delete(adapter)
            raise

    def set_adapters(self, adapters: Sequence[str], weights: Sequence[float]) -> None:
        """Set the active adapters and their weights; those that do not target this component are ignored."""
        pairs = list(zip(adapters, weights, strict=True))
        self._merged.activate(pairs)
        active = [(name, weight) for name, weight in pairs if name in self._adapters]
        if not active:
            self._detach()
            return
        self._attach()
        # They keep requires_grad, though no gradients are computed: without it torch multiplies in another
        # order, and the last bits would differ from diffusers'.
        set_weights_and_activate_adapters(
            self.module, [name for name, _ in active], [weight for _, weight in active]
        )

    def delete(self, adapter: str) -> None:
        """Remove an adapter that is not active, and free its memory."""
        self._merged.remove(adapter)
        if adapter not in self._adapters:
            return
        self._attach()
        self._adapters.discard(adapter)
        delete_adapter_layers(self.module, adapter)
        getattr(self.module, "peft_config", {}).pop(adapter, None)

    def _runs_beside(self, place: str, change: LayerChange) -> bool:
        layer = own_layer(self.module, place)
        if isinstance(layer, torch.nn.Conv2d):
            # A product of two larger kernels is no convolution after another.
            return change.low_rank and layer.groups == 1
        return change.low_rank and isinstance(layer, torch.nn.Linear)

    def _inject(self, adapter: str, changes: Mapping[str, LayerChange]) -> None:
        """Have PEFT wrap the layers, and give each its own matrices, rank and scale.

        PEFT finds ranks and scales by layer with patterns, which takes minutes where all layers differ.
        """
        config = LoraConfig(r=1, lora_alpha=1, target_modules=list(changes))
        with _shaped([own_layer(self.module, place) for place in changes]):
            inject_adapter_in_model(
                config, self.module, adapter_name=adapter, low_cpu_mem_usage=True
            )
        for place, change in changes.items():
            _fill(cast("LoraLayer", self.module.get_submodule(place)), adapter, change)

    def _attach(self) -> None:
        """Wrap PEFT's layers around the component's own again."""
        for place, layer in self._wrapped.items():
            own = cast("torch.Tensor", layer.get_submodule("base_layer").weight)
            self.module.set_submodule(place, layer.to(own.device))
        self._wrapped.clear()

    def _detach(self) -> None:
        """Remove PEFT's layers, so that the component is exactly the original."""
        found = dict(self.module.named_modules())
        found = {place: layer for place, layer in found.items() if _is_wrapper(layer)}
        for place, layer in found.items():
            self.module.set_submodule(place, layer.get_submodule("base_layer"))
        self._wrapped.update(found)


@contextmanager
def _shaped(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Give weights that the model cache has dropped their shapes, which PEFT reads, but no memory."""
    weights = [(cast("torch.Tensor", layer.weight), weight_shape(layer)) for layer in layers]
    dropped = [(weight, shape) for weight, shape in weights if not weight.numel()]
    for weight, shape in dropped:
        weight.data = weight.data.new_zeros(()).expand(shape)
    try:
        yield
    finally:
        for weight, _ in dropped:
            weight.data = weight.data.new_empty(0)


def _fill(layer: LoraLayer, adapter: str, change: LayerChange) -> None:
    """Give PEFT's layer the matrices of one change."""
    own = cast("torch.Tensor", layer.get_base_layer().weight)
    down, up = change.parts["down"], change.parts["up"]
    rank = down.shape[0]
    rows, *columns = weight_shape(layer.get_base_layer())
    kernel = (1 for _ in columns[1:])
    shapes = {"lora_A": (rank, *columns), "lora_B": (rows, rank, *kernel)}
    for name, tensor in (("lora_A", down), ("lora_B", up)):
        matrix = tensor.to(own.device, own.dtype).reshape(shapes[name])
        getattr(layer, name)[adapter].weight = torch.nn.Parameter(matrix)
    layer.r[adapter] = rank
    layer.lora_alpha[adapter] = change.scale * rank
    layer.scaling[adapter] = change.scale


def _is_wrapper(layer: torch.nn.Module) -> bool:
    return isinstance(layer, BaseTunerLayer)
