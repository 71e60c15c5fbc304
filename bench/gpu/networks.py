"""The networks of Stable Diffusion XL with random weights, made on the device: full-size, or small for a dry run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

_SMALL: Mapping[str, Mapping[str, Any]] = {
    "unet": {
        "block_out_channels": [32, 64, 64],
        "transformer_layers_per_block": [1, 1, 1],
        "attention_head_dim": [1, 2, 2],
        "layers_per_block": 1,
        "cross_attention_dim": 96,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 64,
        "norm_num_groups": 8,
    },
    "vae": {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 64},
    "text_encoder_2": {"hidden_size": 64, "intermediate_size": 128, "projection_dim": 64},
}
_SMALL_TEXT = {"num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """All networks of one model, in evaluation mode."""

    text_encoder: CLIPTextModel
    """CLIP-L."""
    text_encoder_2: CLIPTextModelWithProjection
    """CLIP-G."""
    unet: UNet2DConditionModel
    """The denoiser."""
    controlnet: ControlNetModel
    """One of the full size, as diffusers makes them from a denoiser."""
    vae: AutoencoderKL
    """The autoencoder."""
    device: torch.device
    """Where they are."""
    dtype: torch.dtype
    """What they compute in."""


def create(device: torch.device, dtype: torch.dtype, *, small: bool) -> Networks:
    """Networks with random weights.

    Args:
        device: where they are made.
        dtype: what they compute in.
        small: whether they have a few thousandths of the full size.
    """
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            unet = UNet2DConditionModel.from_config(_read("unet", small=small))
            made = (
                CLIPTextModel(_text("text_encoder", small=small)),
                CLIPTextModelWithProjection(_text("text_encoder_2", small=small)),
                unet,
                ControlNetModel.from_unet(unet),
                AutoencoderKL.from_config({**_read("vae", small=small), "force_upcast": False}),
            )
    finally:
        torch.set_default_dtype(before)
    first, second, unet, controlnet, vae = (
        one.eval().requires_grad_(requires_grad=False) for one in made
    )
    return Networks(
        text_encoder=first,
        text_encoder_2=second,
        unet=unet,
        controlnet=controlnet,
        vae=vae,
        device=device,
        dtype=dtype,
    )


def _read(name: str, *, small: bool) -> dict[str, Any]:
    """The configuration of a network of Stable Diffusion XL."""
    folder = files("atelier_engines.diffusion.weights") / "configurations" / "sdxl" / name
    found: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return {**found, **_SMALL[name]} if small else found


def _text(name: str, *, small: bool) -> CLIPTextConfig:
    found = _read(name, small=small)
    return CLIPTextConfig(**{**found, **(_SMALL_TEXT if small else {})})
