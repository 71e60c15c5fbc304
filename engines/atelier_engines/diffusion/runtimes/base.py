"""The components of a model as a family sees them, whatever runs each of them.

Tensors are torch's in every runtime, on the model's device: the schedulers between two calls are
diffusers', and torch passes its memory to ONNX Runtime and TensorRT without a copy.
Rows are independent of each other: rows of different tasks, at different steps, may share a call.
All are called from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

import torch

from atelier_engines.diffusion.loras.replacing import LoraTarget

OnOverflow = Callable[[], None]
"""Told that a number format was too small for a result, which is then computed again in a larger one."""


def ignore_overflow() -> None:
    """Say nothing of an overflow."""


NO_VECTORS: Mapping[int, torch.Tensor] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoderOutput:
    """What a text encoder returns for its tokens."""

    prompt_embeds: torch.Tensor
    """(rows, tokens, width): one vector per token."""
    pooled_prompt_embeds: torch.Tensor | None
    """(rows, projection): one vector per text; None from an encoder without projection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What the denoiser is conditioned on, a row for each row of latents."""

    prompt_embeds: torch.Tensor
    """(rows, tokens, width), in the model's dtype."""
    pooled_prompt_embeds: torch.Tensor | None = None
    """(rows, projection), in the model's dtype; None where the family has none."""
    time_ids: torch.Tensor | None = None
    """(rows, numbers), in the model's dtype; None where the family has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """What ControlNets add inside the denoiser, a row for each row of latents."""

    down: tuple[torch.Tensor, ...]
    """(rows, channels, height, width) each: one for each output of the denoiser's down blocks."""
    mid: torch.Tensor
    """(rows, channels, height, width): for its middle block."""


class TextEncoder(Protocol):
    """Turns tokens into embeddings."""

    @property
    def lora_target(self) -> LoraTarget | None:
        """See Denoiser.lora_target."""

    @property
    def width(self) -> int:
        """How many numbers the vector of a token has."""

    def encode(
        self,
        token_ids: torch.Tensor,
        *,
        layer: int | None,
        normed: bool = False,
        vectors: Mapping[int, torch.Tensor] = NO_VECTORS,
    ) -> TextEncoderOutput:
        """Run the encoder once.

        Args:
            token_ids: (rows, tokens), int64, on any device.
            layer: which of the hidden states to return; -1 is after the last layer, None after the
                norm that follows it.
            normed: whether the norm that follows the last layer is applied to the hidden state of `layer`.
            vectors: (width,) by place: what stands there in every row, in place of the token's own vector.
        """


class Denoiser(Protocol):
    """Predicts the noise in latents, or what the model predicts in its place."""

    @property
    def lora_target(self) -> LoraTarget | None:
        """What LoRAs change; None if this runtime supports no LoRAs."""

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """Run the denoiser once.

        Args:
            latents: (rows, channels, height, width) in latent pixels, scaled by the scheduler.
            timesteps: (rows,), one for each row, float32 or int64.
            conditioning: a row for each row of `latents`.
            residuals: what ControlNets add, a row for each row of `latents`; None for nothing.

        Returns:
            The prediction, shaped like `latents`.
        """


class ControlNet(Protocol):
    """Computes residuals that make the denoiser follow a control image."""

    def compute_residuals(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        *,
        maps: torch.Tensor,
        scales: Sequence[float],
    ) -> Residuals:
        """Run the ControlNet once.

        Args:
            latents: see `Denoiser.predict`; more channels than the ControlNet takes are ignored.
            timesteps: see `Denoiser.predict`.
            conditioning: see `Denoiser.predict`.
            maps: (rows, 3, height, width) in pixels, 0 to 1: the control image of each row.
            scales: one number for each row, which its residuals are multiplied by.
        """


class Autoencoder(Protocol):
    """The VAE: images to latents and back, in its own scale."""

    def encode(
        self,
        image: torch.Tensor,
        generator: torch.Generator,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """Run the encoder, and draw a sample from the distribution that it returns.

        Args:
            image: (1, 3, height, width) in pixels, -1 to 1, on any device.
            generator: where the random numbers come from.
            tiled: whether to work on one tile of the image after the other, which takes less memory
                and changes the result a little where tiles meet.
            on_overflow: called where the result is NaN or infinity though the input is not, before it is computed
                again in float32; not where it was computed so.

        Returns:
            (1, channels, height, width) in latent pixels.
        """

    def decode(
        self,
        latents: torch.Tensor,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """Run the decoder.

        Args:
            latents: (rows, channels, height, width) in latent pixels.
            tiled: see `encode`.
            on_overflow: see `encode`.

        Returns:
            (rows, 3, height, width) in pixels, about -1 to 1, in any float dtype.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The components of one model on one device; each may be run in another way."""

    text_encoders: tuple[TextEncoder, ...]
    """The text encoders, in the family's order."""
    denoiser: Denoiser
    """The denoiser, a UNet for instance."""
    autoencoder: Autoencoder
    """The VAE; it may compute in another dtype."""
    controlnets: Mapping[str, ControlNet] = field(default_factory=dict)
    """The ControlNets by name."""
    device: torch.device
    """Where tensors go in and come out."""
    dtype: torch.dtype
    """The dtype of latents and conditioning."""

    @property
    def supports_loras(self) -> bool:
        """Whether LoRAs can change the denoiser and all text encoders."""
        encoders = all(encoder.lora_target is not None for encoder in self.text_encoders)
        return encoders and self.denoiser.lora_target is not None
