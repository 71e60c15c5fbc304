"""Adds LoRAs to one component of a model, and removes them without a trace."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import cast

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.peft_utils import delete_adapter_layers, set_weights_and_activate_adapters
from peft.tuners.tuners_utils import BaseTunerLayer

from atelier_engines.diffusion.loras.weights import DENOISER, LoraWeights

# It reports other LoRAs of the same text encoder as missing in the file; tensors that are really missing, or
# of another shape, were found before.
logging.getLogger("transformers.integrations.peft").setLevel(logging.ERROR)


class AdaptedNetwork:
    """A component of a model whose own weights are never changed.

    Without active LoRAs it is exactly the original: the layers that PEFT wraps around its own are removed.
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

    def load(self, adapter: str, lora: LoraWeights) -> None:
        """Add the part of a LoRA that targets this component, by diffusers' own loaders.

        Raises:
            Exception: whatever they raise; the LoRA is removed again.
        """
        if not lora.targets(self.prefix):
            return
        self._attach()
        self._adapters.add(adapter)
        try:
            with warnings.catch_warnings():
                # More than one LoRA is intended here.
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                self._load(adapter, lora)
        except BaseException:
            self.delete(adapter)
            raise

    def set_adapters(self, adapters: Sequence[str], weights: Sequence[float]) -> None:
        """Set the active adapters and their weights; those that do not target this component are ignored."""
        pairs = zip(adapters, weights, strict=True)
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
        """Remove an adapter and free its memory."""
        if adapter not in self._adapters:
            return
        self._attach()
        self._adapters.discard(adapter)
        delete_adapter_layers(self.module, adapter)
        getattr(self.module, "peft_config", {}).pop(adapter, None)

    def _load(self, adapter: str, lora: LoraWeights) -> None:
        tensors = dict(lora.tensors)
        if self.prefix == DENOISER:
            StableDiffusionXLPipeline.load_lora_into_unet(
                tensors,
                network_alphas=lora.alphas,
                unet=self.module,
                adapter_name=adapter,
                metadata=lora.metadata,
                low_cpu_mem_usage=True,
            )
        else:
            StableDiffusionXLPipeline.load_lora_into_text_encoder(
                tensors,
                network_alphas=lora.alphas,
                text_encoder=self.module,
                prefix=self.prefix,
                adapter_name=adapter,
                metadata=lora.metadata,
                low_cpu_mem_usage=True,
            )

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


def _is_wrapper(layer: torch.nn.Module) -> bool:
    return isinstance(layer, BaseTunerLayer)
