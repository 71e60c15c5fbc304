"""The modules of TangoFlux, as its files have them.

Source: github.com/declare-lab/TangoFlux, tangoflux/model.py (2026-01), for the names and the sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner

from atelier_engines.errors import ModelMissingError
from atelier_engines.tangoflux.facts import SAMPLE_RATE
from atelier_engines.tangoflux.published_files import NetworkConfig

DENOISER = "transformer."
TEXT_ENCODER = "text_encoder."
TEXT_TIED = ("encoder.embed_tokens.weight",)
"""Weights of the text encoder that are another's, and are not in the file."""
CONDITIONER = ("fc.", "duration_emebdder.")
"""The second name is misspelt in the published file."""
_ROTARY = (16, 56, 56)


class TangoFluxConditioner(torch.nn.Module):
    """What is between text encoder and denoiser."""

    def __init__(self, *, text_width: int, joint_width: int, max_seconds: int) -> None:
        """Create it; its weights are loaded afterwards."""
        super().__init__()
        self.fc = torch.nn.Sequential(torch.nn.Linear(text_width, joint_width), torch.nn.ReLU())
        self.duration_emebdder = StableAudioNumberConditioner(text_width, 0, max_seconds)

    def forward(
        self, states: torch.Tensor, mask: torch.Tensor, seconds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of the tokens' states, projected, and the states with the duration as one more token."""
        weights = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
        duration = self.duration_emebdder(seconds)
        return self.fc(mean), torch.cat([states, duration], dim=1)


def create_denoiser(network: NetworkConfig, text_width: int) -> FluxTransformer2DModel:
    """The denoiser of a configuration."""
    return FluxTransformer2DModel(
        in_channels=network.in_channels,
        num_layers=network.num_layers,
        num_single_layers=network.num_single_layers,
        attention_head_dim=network.attention_head_dim,
        num_attention_heads=network.num_attention_heads,
        joint_attention_dim=network.joint_attention_dim,
        pooled_projection_dim=text_width,
        guidance_embeds=False,
        axes_dims_rope=_ROTARY,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OobleckShape:
    """The sizes of an Oobleck autoencoder."""

    encoder_width: int
    decoder_width: int
    latent_width: int
    channels: int
    ratios: tuple[int, ...]
    """Of the encoder's blocks, from the samples to the latents."""
    multiples: tuple[int, ...]
    """Of the width, by block."""


def read_shape(shapes: Mapping[str, tuple[int, ...]]) -> OobleckShape:
    """The sizes that the weights of an autoencoder have: the published file comes without a configuration.

    Source: diffusers 0.42.1, autoencoder_oobleck.py: each block ends in a convolution whose kernel is twice its ratio.

    Raises:
        ModelMissingError: these are not the weights of an Oobleck.
    """
    try:
        width, channels, _ = shapes["encoder.conv1.weight_v"]
        blocks = list(
            takewhile(
                lambda name: name in shapes,
                (f"encoder.block.{index}.conv1.weight_v" for index in count()),
            )
        )
        decoder_width = shapes["decoder.conv2.weight_v"][1]
        latent_width = shapes["decoder.conv1.weight_v"][1]
    except (KeyError, ValueError, IndexError) as error:
        raise ModelMissingError("these are not the weights of an Oobleck autoencoder") from error
    return OobleckShape(
        encoder_width=width,
        decoder_width=decoder_width,
        latent_width=latent_width,
        channels=channels,
        ratios=tuple(shapes[name][2] // 2 for name in blocks),
        multiples=tuple(shapes[name][0] // width for name in blocks),
    )


def create_autoencoder(shape: OobleckShape) -> AutoencoderOobleck:
    """The autoencoder of these sizes."""
    return AutoencoderOobleck(
        encoder_hidden_size=shape.encoder_width,
        downsampling_ratios=list(shape.ratios),
        channel_multiples=list(shape.multiples),
        decoder_channels=shape.decoder_width,
        decoder_input_channels=shape.latent_width,
        audio_channels=shape.channels,
        sampling_rate=SAMPLE_RATE,
    )
