"""Components that torch runs while LoRAs are active, and a graph whose weights cannot be changed at all other times."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from atelier_engines.diffusion.loras.replacing import LoraStandIn
from atelier_engines.diffusion.runtimes.base import (
    NO_VECTORS,
    Conditioning,
    Denoiser,
    Residuals,
    TextEncoder,
    TextEncoderOutput,
)
from atelier_engines.errors import EngineFailedError


class StandInDenoiser:
    """See Denoiser."""

    def __init__(self, plain: Denoiser, changed: Denoiser) -> None:
        """Denoise with one of two that have the same weights.

        Args:
            plain: runs without LoRAs.
            changed: torch's, which runs with them.
        """
        self._plain = plain
        self._changed = changed
        self._target = LoraStandIn(module=_require_module(changed))

    @property
    def lora_target(self) -> LoraStandIn:
        """See Denoiser.lora_target."""
        return self._target

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """See Denoiser.predict."""
        chosen = self._changed if self._target.in_use else self._plain
        return chosen.predict(latents, timesteps, conditioning, residuals)


class StandInTextEncoder:
    """See TextEncoder."""

    def __init__(self, plain: TextEncoder, changed: TextEncoder) -> None:
        """Encode with one of two that have the same weights; see StandInDenoiser."""
        self._plain = plain
        self._changed = changed
        self._target = LoraStandIn(module=_require_module(changed))

    @property
    def lora_target(self) -> LoraStandIn:
        """See TextEncoder.lora_target."""
        return self._target

    @property
    def width(self) -> int:
        """See TextEncoder.width."""
        return self._plain.width

    def encode(
        self,
        token_ids: torch.Tensor,
        *,
        layer: int | None,
        normed: bool = False,
        vectors: Mapping[int, torch.Tensor] = NO_VECTORS,
    ) -> TextEncoderOutput:
        """See TextEncoder.encode."""
        chosen = self._changed if self._target.in_use else self._plain
        return chosen.encode(token_ids, layer=layer, normed=normed, vectors=vectors)


def _require_module(component: Denoiser | TextEncoder) -> torch.nn.Module:
    target = component.lora_target
    if not isinstance(target, torch.nn.Module):
        raise EngineFailedError("only what torch runs can stand in while LoRAs are active")
    return target
