"""One network with LoRAs that can be put on and taken off."""

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

# It reports other LoRAs of the same text encoder as missing in the file; what is missing indeed, or
# of another shape, has been found before.
logging.getLogger("transformers.integrations.peft").setLevel(logging.ERROR)


class AdaptedNetwork:
    """A network of a model, whose own weights are never touched.

    Without LoRAs it is what it was before: the layers that PEFT puts around its own are out then.
    """

    def __init__(self, prefix: str, module: torch.nn.Module) -> None:
        """Take a network as it is.

        Args:
            prefix: the name under which LoRAs know it.
            module: the network.
        """
        self.prefix = prefix
        self.module = module
        self._wrapped: dict[str, torch.nn.Module] = {}
        """PEFT's layers by their place, while they are out."""
        self._adapters: set[str] = set()

    def load(self, adapter: str, lora: LoraWeights) -> None:
        """Add what the LoRA holds for this network, by diffusers' own loaders.

        Raises:
            Exception: whatever they raise; nothing of it is left then.
        """
        if not lora.targets(self.prefix):
            return
        self._attach()
        self._adapters.add(adapter)
        try:
            with warnings.catch_warnings():
                # That there is more than one, as is meant here.
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                self._load(adapter, lora)
        except BaseException:
            self.delete(adapter)
            raise

    def set_adapters(self, adapters: Sequence[str], weights: Sequence[float]) -> None:
        """Change what the network computes; nothing is changed without adapters of its own."""
        pairs = zip(adapters, weights, strict=True)
        active = [(name, weight) for name, weight in pairs if name in self._adapters]
        if not active:
            self._detach()
            return
        self._attach()
        # They are left to require gradients, though nobody computes any: torch multiplies in another
        # order without that, and the last bits would not be diffusers'.
        set_weights_and_activate_adapters(
            self.module, [name for name, _ in active], [weight for _, weight in active]
        )

    def delete(self, adapter: str) -> None:
        """Give its memory back."""
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
        """Put PEFT's layers back around the network's own."""
        for place, layer in self._wrapped.items():
            own = cast("torch.Tensor", layer.get_submodule("base_layer").weight)
            self.module.set_submodule(place, layer.to(own.device))
        self._wrapped.clear()

    def _detach(self) -> None:
        """Take PEFT's layers out, so that the network is what it was before."""
        found = dict(self.module.named_modules())
        found = {place: layer for place, layer in found.items() if _is_wrapper(layer)}
        for place, layer in found.items():
            self.module.set_submodule(place, layer.get_submodule("base_layer"))
        self._wrapped.update(found)


def _is_wrapper(layer: torch.nn.Module) -> bool:
    return isinstance(layer, BaseTunerLayer)
