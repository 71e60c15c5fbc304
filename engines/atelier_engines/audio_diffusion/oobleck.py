"""The Oobleck autoencoder, which several models share: how far a sample sees, and how latents become samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.diffusion.runtimes.graphs.graph import Axis, Graph, GraphInput
from atelier_engines.local.model_cache import Lease
from atelier_engines.local.torch_module import TorchModule

Run: TypeAlias = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""Runs a network on its inputs by name."""
LATENTS = Axis(name="latents", least=1, most=1024, example=9)
"""Of a clip, or of a piece of it."""
_KERNEL_REACH = 3
"""Of a convolution with a kernel of 7."""
_DILATIONS = (1, 3, 9)
"""Of the residual units of each block."""


def count_reach(ratios: Sequence[int]) -> int:
    """Latents on either side that a sample of the decoder depends on.

    Source: diffusers 0.42.1, autoencoder_oobleck.py: a convolution, then for each ratio a transposed convolution of
    twice the ratio and three residual units, then a convolution.

    Args:
        ratios: of the decoder's blocks, from the latents to the samples.
    """
    reach, hop = float(_KERNEL_REACH), 1
    for ratio in ratios:
        reach += 1 / hop
        hop *= ratio
        reach += _KERNEL_REACH * sum(_DILATIONS) / hop
    return math.ceil(reach + _KERNEL_REACH / hop)


def describe_decoder(latent_width: int) -> Graph:
    """The graph from latents, any number of them, to samples; in float32, as it always computes."""
    return Graph(
        name="oobleck decoder",
        inputs=(GraphInput(name="latents", shape=(1, latent_width, LATENTS), dtype=torch.float32),),
        outputs=("samples",),
        wrap=DecoderGraph,
    )


class DecoderGraph(torch.nn.Module):
    """The decoder as a function of tensors alone."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 (diffusers' models have no base for mypy)
        super().__init__()
        self.config = module.config
        self.decoder = module.decoder

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(1, channels, samples)."""
        decoded: torch.Tensor = self.decoder(latents)
        return decoded


def count_encoder_reach(ratios: Sequence[int]) -> int:
    """Latents on either side of its own samples that a latent of the encoder depends on.

    Source: diffusers 0.42.1, autoencoder_oobleck.py: a convolution, then for each ratio three residual units and a
    strided convolution of twice the ratio, then a convolution with a kernel of 3.

    Args:
        ratios: of the encoder's blocks, from the samples to the latents.
    """
    reach, hop = _KERNEL_REACH, 1
    for ratio in ratios:
        reach += hop * (_KERNEL_REACH * sum(_DILATIONS) + ratio)
        hop *= ratio
    return math.ceil((reach + hop) / hop)


class TorchNetwork:
    """Runs the module of a graph. See Run."""

    def __init__(self, graph: Graph, lease: Lease[TorchModule[Any]]) -> None:
        """Run the leased module."""
        self.module: torch.nn.Module = lease.resident.module
        self._lease = lease
        self._network = graph.wrap(self.module)

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The network's output."""
        made: torch.Tensor = self._lease.run(lambda: self._network(**inputs))
        return made


class OobleckCodec:
    """Decodes latents, and encodes samples, on the device that has the autoencoder. For one thread at a time."""

    def __init__(
        self,
        lease: Lease[TorchModule[AutoencoderOobleck]],
        *,
        max_latents: int,
        decode: Run | None = None,
    ) -> None:
        """Use the leased autoencoder for clips of up to `max_latents`; `decode` runs the decoder in its place."""
        self._lease = lease
        module: Any = lease.resident.module  # its attributes have no types
        graph = describe_decoder(int(module.config.decoder_input_channels))
        self._decode = TorchNetwork(graph, lease) if decode is None else decode
        self.channels = int(module.config.audio_channels)
        self.sample_rate = int(module.config.sampling_rate)
        self.codec = LatentCodec(
            hop=math.prod(module.upsampling_ratios),
            max_latents=max_latents,
            reach=count_reach(module.upsampling_ratios),
            encoder_reach=count_encoder_reach(module.config.downsampling_ratios),
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Samples, (channels, samples), of the latents (1, width, latents)."""
        return self._decode({"latents": latents.float()})[0]

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        """Parameters of the distribution of its latents, (1, 2 x width, latents); see AudioModel.encode_audio."""
        module = self._lease.resident.module
        parameters: torch.Tensor = self._lease.run(
            lambda: module.encode(wave.float()).latent_dist.parameters
        )
        return parameters
