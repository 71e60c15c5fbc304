"""A runtime says what its components support."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from atelier_engines.diffusion import DiffusionEngine
from atelier_engines.diffusion.runtimes.base import (
    NO_VECTORS,
    Conditioning,
    Denoiser,
    Residuals,
    TextEncoder,
    TextEncoderOutput,
)


class CompiledDenoiser:
    """A denoiser that torch does not run."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner = inner

    @property
    def lora_target(self) -> None:
        """See Denoiser.lora_target."""

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """See Denoiser.predict."""
        return self.inner.predict(latents, timesteps, conditioning, residuals)


class CompiledTextEncoder:
    """A text encoder that torch does not run."""

    def __init__(self, inner: TextEncoder) -> None:
        self.inner = inner

    @property
    def lora_target(self) -> None:
        """See TextEncoder.lora_target."""

    @property
    def width(self) -> int:
        """See TextEncoder.width."""
        return self.inner.width

    def encode(
        self,
        token_ids: torch.Tensor,
        *,
        layer: int | None,
        normed: bool = False,
        vectors: Mapping[int, torch.Tensor] = NO_VECTORS,
    ) -> TextEncoderOutput:
        """See TextEncoder.encode."""
        return self.inner.encode(token_ids, layer=layer, normed=normed, vectors=vectors)


def test_one_component_without_loras_is_enough_to_support_none(engine: DiffusionEngine) -> None:
    """A LoRA that is applied in part is another LoRA."""
    runtime = engine.inspect().family.runtime
    assert runtime.supports_loras
    assert not replace(runtime, denoiser=CompiledDenoiser(runtime.denoiser)).supports_loras
    first, second = runtime.text_encoders
    mixed = replace(runtime, text_encoders=(first, CompiledTextEncoder(second)))
    assert not mixed.supports_loras
