"""The SAME autoencoder of Stable Audio 3: how far a sample sees, and how latents become samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_same import AutoencoderSAME

from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.local.model_cache import Lease
from atelier_engines.local.torch_module import TorchModule


def count_reach(strides: Sequence[int], depths: Sequence[int], window: int) -> int:
    """Latents on either side that a sample depends on, and samples' latents that a latent does.

    Source: diffusers 0.42.1, autoencoder_same.py: each layer of a block sees `window` of the block's latents on either
    side; the blocks of the encoder, from the samples to the latents, have these strides.
    """
    reach, hop = 0.0, math.prod(strides)
    for stride, depth in zip(strides, depths, strict=True):
        hop //= stride
        reach += depth * window / hop
    return math.ceil(reach)


class SameCodec:
    """Decodes latents, and encodes samples, on the device that has the autoencoder. For one thread at a time."""

    def __init__(self, lease: Lease[TorchModule[AutoencoderSAME]], *, max_seconds: float) -> None:
        """Use the leased autoencoder for clips of up to so many seconds."""
        self._lease = lease
        module: Any = lease.resident.module  # its attributes have no types
        config = module.config
        self.channels = int(config.audio_channels)
        self.sample_rate = int(config.sampling_rate)
        self.latent_width = int(config.latent_dim)
        hop = int(module.downsampling_ratio)
        reach = count_reach(
            config.encoder_strides, config.encoder_transformer_depths, config.sliding_window
        )
        self.codec = LatentCodec(
            hop=hop,
            max_latents=math.ceil(max_seconds * self.sample_rate / hop),
            reach=reach,
            encoder_reach=reach,
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Samples, (channels, samples), of the latents (1, width, latents)."""
        module = self._lease.resident.module
        made: torch.Tensor = self._lease.run(lambda: module.decode(latents.float()).sample[0])
        return made

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        """The latents of a wave, (1, width, latents); see AudioModel.encode_audio."""
        module = self._lease.resident.module
        made: torch.Tensor = self._lease.run(lambda: module.encode(wave.float()).latents)
        return made
