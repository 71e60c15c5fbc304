"""The modules at full size have the names and shapes of the published files; they take no memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from atelier_engines.audio_diffusion.oobleck import count_reach
from atelier_engines.tangoflux import network
from atelier_engines.tangoflux.published_files import NetworkConfig

FLAN_T5_LARGE = T5Config(
    vocab_size=32128,
    d_model=1024,
    d_kv=64,
    d_ff=2816,
    num_layers=24,
    num_heads=16,
    feed_forward_proj="gated-gelu",
    is_encoder_decoder=False,
)
"""Source: config.json of google/flan-t5-large."""


def build(name: str) -> torch.nn.Module:
    """A module at full size, without memory."""
    made: dict[str, Callable[[], torch.nn.Module]] = {
        "denoiser": lambda: network.create_denoiser(NetworkConfig(), 1024),
        "text_encoder": lambda: T5EncoderModel(FLAN_T5_LARGE),
        "conditioner": lambda: network.TangoFluxConditioner(
            text_width=1024, joint_width=1024, max_seconds=30
        ),
        "autoencoder": lambda: network.create_autoencoder(PUBLISHED),
    }
    with torch.device("meta"):
        return made[name]()


PUBLISHED = network.OobleckShape(
    encoder_width=128,
    decoder_width=128,
    latent_width=64,
    channels=2,
    ratios=(2, 4, 4, 8, 8),
    multiples=(1, 2, 4, 8, 16),
)


@pytest.mark.parametrize(
    ("name", "tensors", "millions"),
    [
        ("denoiser", 460, 516.7),
        ("text_encoder", 220, 341.2),
        ("autoencoder", 365, 156.1),
        ("conditioner", 5, 1.3),
    ],
)
def test_a_part_has_the_published_size(name: str, tensors: int, millions: float) -> None:
    """Counted in the published files: tensors, and their numbers."""
    state = build(name).state_dict()
    if name == "text_encoder":
        del state["encoder.embed_tokens.weight"]  # it is the same as shared.weight
        tensors -= 1
    assert len(state) == tensors
    assert round(sum(math.prod(one.shape) for one in state.values()) / 1e6, 1) == millions


def test_all_parts_together_have_the_size_of_the_published_file() -> None:
    """3.44 GB in float32: denoiser, text encoder and what is between."""
    numbers = sum(
        one.numel()
        for name in ("denoiser", "text_encoder", "conditioner")
        for one in build(name).parameters()
    )
    assert round(numbers * 4 / 1e9, 2) == 3.44


def test_the_shape_of_the_autoencoder_is_read_from_its_weights() -> None:
    """The published file comes without a configuration."""
    state = build("autoencoder").state_dict()
    assert network.read_shape({name: tuple(one.shape) for name, one in state.items()}) == PUBLISHED


def test_a_sample_depends_on_ten_latents_on_either_side() -> None:
    """Of the published autoencoder: a decoder that gets so many more gives the same samples."""
    assert count_reach((8, 8, 4, 4, 2)) == 10
