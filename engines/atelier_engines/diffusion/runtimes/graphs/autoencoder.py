"""The graphs of a VAE: its encoder and its decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import ROWS, Graph, GraphInput, image_axes


def describe_encoder(config: Mapping[str, Any], dtype: torch.dtype) -> Graph:
    """The graph from an image to the mean and variance of its latents, as diffusers stacks them.

    Args:
        config: the VAE's configuration, as diffusers' AutoencoderKL has it.
        dtype: the type that it computes in.
    """
    pixels = image_axes(factor=2 ** (len(config["block_out_channels"]) - 1))
    return Graph(
        name="autoencoder's encoder",
        inputs=(
            GraphInput(name="image", shape=(ROWS, config["in_channels"], *pixels), dtype=dtype),
        ),
        outputs=("moments",),
        wrap=_EncoderGraph,
    )


def describe_decoder(config: Mapping[str, Any], dtype: torch.dtype) -> Graph:
    """The graph from latents to an image; see `describe_encoder`."""
    shape = (ROWS, config["latent_channels"], *image_axes())
    return Graph(
        name="autoencoder's decoder",
        inputs=(GraphInput(name="latents", shape=shape, dtype=dtype),),
        outputs=("image",),
        wrap=_DecoderGraph,
    )


class _EncoderGraph(torch.nn.Module):
    def __init__(self, module: Any) -> None:  # noqa: ANN401 (diffusers' models have no base for mypy)
        super().__init__()
        self.config = module.config
        self.encoder = module.encoder
        self.last = module.quant_conv or torch.nn.Identity()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        moments: torch.Tensor = self.last(self.encoder(image))
        return moments


class _DecoderGraph(torch.nn.Module):
    def __init__(self, module: Any) -> None:  # noqa: ANN401 (diffusers' models have no base for mypy)
        super().__init__()
        self.config = module.config
        self.first = module.post_quant_conv or torch.nn.Identity()
        self.decoder = module.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.decoder(self.first(latents))
        return image
