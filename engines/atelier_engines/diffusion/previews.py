"""Small pictures of work in progress, without the autoencoder.

Either a linear map of the latents' channels, which costs next to nothing, or a tiny autoencoder that
was distilled from the model's own (TAESD).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.local.weights import sources
from atelier_engines.media import Encoded, Pixels
from atelier_engines.preview import PreviewFormat, preview_from_pixels

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

_log = logging.getLogger(__name__)


class Previewer(Protocol):
    """Makes small pictures of latents."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """A small picture of latents, (1, channels, height, width), as the denoiser sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPreviewer:
    """Turns each latent cell into one pixel by a linear map of its channels."""

    factors: Sequence[Sequence[float]]
    """(channels, 3): from latents as the denoiser sees them to red, green, blue of 0 to 1."""
    bias: Sequence[float]
    """(3,): the colour of latents that are zero."""
    max_side: int
    """Longest side in pixels; larger previews are shrunk, smaller ones stay as they are."""
    encoding: PreviewFormat = "jpeg"
    """Of the bytes."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """See Previewer.preview."""
        cells = latents[0].float().permute(1, 2, 0).cpu()
        colours = cells @ torch.tensor(self.factors) + torch.tensor(self.bias)
        return _encode(colours, self.max_side, self.encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyVaePreviewer:
    """Runs a tiny autoencoder: eight pixels along the side of a cell, before they are shrunk."""

    network: AutoencoderTiny
    """In evaluation mode, on any device."""
    max_side: int
    """See LinearPreviewer.max_side."""
    encoding: PreviewFormat = "jpeg"
    """Of the bytes."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """See Previewer.preview."""
        network = self.network
        seen = latents.to(device=network.device, dtype=network.dtype)
        made = network.decode(seen / network.config["scaling_factor"], return_dict=False)[0]
        colours = made[0].float().permute(1, 2, 0).cpu() / 2 + 0.5
        return _encode(colours, self.max_side, self.encoding)


def preview_or_none(previewer: Previewer, latents: torch.Tensor) -> Encoded | None:
    """A preview of latents, (1, channels, height, width); None, and a warning in the log, if it fails.

    The image itself does not depend on it.
    """
    try:
        return previewer.preview(latents)
    except Exception as error:  # noqa: BLE001 (of any type: the image does not need its preview)
        _log.warning("preview_failed", extra={"error": first_line(error)})
        return None


def build_previewer(
    config: DiffusionConfig,
    *,
    factors: Sequence[Sequence[float]],
    bias: Sequence[float],
    device: torch.device,
    dtype: torch.dtype,
) -> Previewer:
    """What makes an engine's previews: the configured tiny autoencoder, else a linear map.

    Args:
        config: of the engine.
        factors: see LinearPreviewer.
        bias: see LinearPreviewer.
        device: where a tiny autoencoder is to run.
        dtype: what it is to compute in.

    Raises:
        ModelMissingError: the tiny autoencoder is absent, broken, or another network.
    """
    max_side, encoding = config.preview_pixels, config.preview_format
    if config.preview_model is None:
        return LinearPreviewer(factors=factors, bias=bias, max_side=max_side, encoding=encoding)
    path = sources.resolve_component(config.preview_model, "vae", download=config.download)
    network = load_tiny_vae(path, device=device, dtype=dtype)
    return TinyVaePreviewer(network=network, max_side=max_side, encoding=encoding)


def load_tiny_vae(path: Path, *, device: torch.device, dtype: torch.dtype) -> AutoencoderTiny:
    """The tiny autoencoder in a directory with its config.json, or in one `.safetensors` file.

    A file alone has TAESD's own shape; its names are diffusers', or those of the original decoder.

    Raises:
        ModelMissingError: it is absent, broken, or another network.
    """
    from diffusers.models.autoencoders.autoencoder_tiny import (  # noqa: PLC0415 (few need it)
        AutoencoderTiny,
    )

    try:
        with LOAD_LOCK:
            if path.is_dir():
                network = AutoencoderTiny.from_pretrained(
                    path, use_safetensors=True, local_files_only=True
                )
            else:
                network = AutoencoderTiny()
                network.decoder.load_state_dict(_decoder_weights(load_file(path)))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelMissingError(
            f"preview_model: {path} cannot be loaded as a tiny autoencoder (TAESD): "
            f"{first_line(error)}"
        ) from error
    made: AutoencoderTiny = network.to(device=device, dtype=dtype).eval()
    return made.requires_grad_(requires_grad=False)


def _decoder_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The decoder's weights under diffusers' names.

    In the original, layer 0 clamps the latents, which diffusers does outside of the layers.

    Source: github.com/madebyollin/taesd, taesd.py, function Decoder.
    """
    prefix = "decoder.layers."
    named = {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if named:
        return {name.removeprefix("decoder."): tensor for name, tensor in named.items()}
    found = {}
    for name, tensor in weights.items():
        layer, _, rest = name.partition(".")
        found[f"layers.{int(layer) - 1}.{rest}"] = tensor
    return found


def _encode(colours: torch.Tensor, max_side: int, encoding: PreviewFormat) -> Encoded:
    """The picture of colours, (height, width, 3), about 0 to 1."""
    pixels = colours.nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return preview_from_pixels(Pixels(array=pixels), max_side=max_side, encoding=encoding)
