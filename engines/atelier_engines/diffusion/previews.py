"""Makes previews from latents, without the autoencoder.

Either a linear map of the latents' channels, which takes almost no time, or a tiny autoencoder that
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

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.local.weights import sources
from atelier_engines.local.weights.dequantization import read_tensors
from atelier_engines.local.weights.quantization import require_unquantized
from atelier_engines.media import Encoded, Pixels
from atelier_engines.preview import PreviewFormat, preview_from_pixels

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

_log = logging.getLogger(__name__)


class Previewer(Protocol):
    """Makes previews of latents."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """Make a preview of latents, (1, channels, height, width), in the denoiser's scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPreviewer:
    """Converts each latent pixel into one pixel by a linear map of its channels."""

    factors: Sequence[Sequence[float]]
    """(channels, 3): from latents in the denoiser's scale to RGB of 0 to 1."""
    bias: Sequence[float]
    """(3,): the colour of zero latents."""
    max_side: int
    """Longest side in pixels; larger previews are shrunk, smaller ones are not changed."""
    encoding: PreviewFormat = "jpeg"
    """File format of the previews."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """See Previewer.preview."""
        pixels = latents[0].float().permute(1, 2, 0).cpu()
        colours = pixels @ torch.tensor(self.factors) + torch.tensor(self.bias)
        return _encode(colours, self.max_side, self.encoding)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyVaePreviewer:
    """Decodes with a tiny autoencoder: eight pixels a side for each latent pixel, shrunk afterwards."""

    network: AutoencoderTiny
    """In evaluation mode, on any device."""
    max_side: int
    """See LinearPreviewer.max_side."""
    encoding: PreviewFormat = "jpeg"
    """File format of the previews."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """See Previewer.preview."""
        network = self.network
        scaled = latents.to(device=network.device, dtype=network.dtype)
        made = network.decode(scaled / network.config["scaling_factor"], return_dict=False)[0]
        colours = made[0].float().permute(1, 2, 0).cpu() / 2 + 0.5
        return _encode(colours, self.max_side, self.encoding)


def preview_or_none(previewer: Previewer, latents: torch.Tensor) -> Encoded | None:
    """Make a preview of latents, (1, channels, height, width); return None and log a warning if it fails.

    The image itself does not depend on its previews.
    """
    try:
        return previewer.preview(latents)
    except Exception as error:  # noqa: BLE001 (whatever it is, the image does not depend on it)
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
    """Create an engine's previewer: the configured tiny autoencoder, else a linear map.

    Args:
        config: the engine's configuration.
        factors: see LinearPreviewer.
        bias: see LinearPreviewer.
        device: where a tiny autoencoder runs.
        dtype: its data type.

    Raises:
        ModelMissingError: the tiny autoencoder is absent, broken, or another model.
    """
    max_side, encoding = config.preview_pixels, config.preview_format
    if config.preview_model is None:
        return LinearPreviewer(factors=factors, bias=bias, max_side=max_side, encoding=encoding)
    path = sources.resolve_component(config.preview_model, "vae", download=config.download)
    network = load_tiny_vae(path, device=device, dtype=dtype)
    return TinyVaePreviewer(network=network, max_side=max_side, encoding=encoding)


def load_tiny_vae(path: Path, *, device: torch.device, dtype: torch.dtype) -> AutoencoderTiny:
    """Load a tiny autoencoder from a directory with its config.json, or from one `.safetensors` file.

    A single file has TAESD's architecture; its names are diffusers', or those of the original decoder.

    Raises:
        ModelMissingError: it is absent, broken, or another model.
    """
    from diffusers.models.autoencoders.autoencoder_tiny import (  # noqa: PLC0415 (few need it)
        AutoencoderTiny,
    )

    try:
        with LOAD_LOCK:
            if path.is_dir():
                require_unquantized(sorted(path.glob("*.safetensors")))
                network = AutoencoderTiny.from_pretrained(
                    path, use_safetensors=True, local_files_only=True
                )
            else:
                network = AutoencoderTiny()
                network.decoder.load_state_dict(_decoder_weights(read_tensors(path, dtype)))
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
    """Encode colours, (height, width, 3), about 0 to 1, as a preview."""
    pixels = colours.nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return preview_from_pixels(Pixels(array=pixels), max_side=max_side, encoding=encoding)
