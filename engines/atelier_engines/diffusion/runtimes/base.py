"""What a model family asks of whatever runs its networks.

Tensors are torch's in every runtime, on the runtime's device: the schedulers between two calls are
diffusers', and torch hands its memory to ONNX Runtime and TensorRT without a copy.
Rows are independent of each other: rows of different tasks, at different steps, may share a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStates:
    """What a text encoder made of its tokens."""

    hidden: torch.Tensor
    """(rows, tokens, width): one vector a token."""
    pooled: torch.Tensor | None
    """(rows, projection): one vector a text; None from an encoder without projection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What steers the denoiser, a row for each row of latents."""

    hidden: torch.Tensor
    """(rows, tokens, width), in the runtime's dtype."""
    pooled: torch.Tensor | None = None
    """(rows, projection), in the runtime's dtype; None where the family has none."""
    time_ids: torch.Tensor | None = None
    """(rows, numbers), in the runtime's dtype; None where the family has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """What ControlNets add inside the denoiser, a row for each row of latents."""

    down: tuple[torch.Tensor, ...]
    """(rows, channels, height, width) each: one for each output of the denoiser's way down."""
    mid: torch.Tensor
    """(rows, channels, height, width): for its middle."""


class Runtime(Protocol):
    """Runs the networks of one model on one device. Called from one thread at a time."""

    @property
    def device(self) -> torch.device:
        """Where tensors go in and come out."""

    @property
    def dtype(self) -> torch.dtype:
        """Of latents and conditioning."""

    def encode_text(
        self, encoder: int, token_ids: torch.Tensor, *, layer: int | None
    ) -> TextStates:
        """Run one text encoder.

        Args:
            encoder: 0 for the family's first encoder, 1 for its second.
            token_ids: (rows, tokens), int64, on any device.
            layer: which of the hidden states to return; -1 is after the last layer, None after the
                norm that follows it.
        """

    def control(
        self,
        network: str,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        *,
        maps: torch.Tensor,
        scales: Sequence[float],
    ) -> Residuals:
        """Run one ControlNet.

        Args:
            network: its name.
            latents: as for `denoise`.
            timesteps: as for `denoise`.
            conditioning: as for `denoise`.
            maps: (rows, 3, height, width) in pixels, 0 to 1, what each row is to follow.
            scales: a number for each row, by which its residuals are multiplied.
        """

    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """Run the denoiser once.

        Args:
            latents: (rows, channels, height, width) in latent cells, scaled by the scheduler.
            timesteps: (rows,), each row's own, float32 or int64.
            conditioning: a row for each row of `latents`.
            residuals: what ControlNets add, a row for each row of `latents`; None for nothing.

        Returns:
            The prediction, shaped like `latents`.
        """

    def encode_image(
        self, picture: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """Run the autoencoder's encoder, and draw from what it says.

        Args:
            picture: (1, 3, height, width) in pixels, -1 to 1, on any device.
            generator: where the random numbers come from.
            tiled: whether to work on one part of the picture after the other, which takes less
                memory and changes it a little where parts meet.

        Returns:
            (1, channels, height, width) in latent cells, in the autoencoder's scale.
        """

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """Run the autoencoder's decoder.

        Args:
            latents: (rows, channels, height, width) in latent cells, in the autoencoder's scale.
            tiled: see `encode_image`.

        Returns:
            (rows, 3, height, width) in pixels, about -1 to 1, in any float dtype.
        """

    def synchronize(self) -> None:
        """Return when the device has done everything it was given."""
