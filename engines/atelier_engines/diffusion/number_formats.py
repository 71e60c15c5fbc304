"""Which number formats the networks of a model compute in."""

from __future__ import annotations

import torch

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights import diffusers_layout
from atelier_engines.diffusion.weights.model_files import ModelFiles, find_config
from atelier_engines.local import devices
from atelier_engines.local.devices import DTYPES


def choose_vae_dtype(
    config: DiffusionConfig, model: ModelFiles, precision: torch.dtype
) -> torch.dtype:
    """float32 instead of float16 where the autoencoder's makers say that it would overflow.

    Only SDXL's does, and only there they say so: configurations of older ones have it by default.
    """
    if config.vae_precision != "auto":
        return DTYPES[config.vae_precision]
    if precision != torch.float16 or model.architecture != "sdxl":
        return precision
    vae = diffusers_layout.read_object(find_config(model.components["vae"]))
    return torch.float32 if vae.get("force_upcast", True) else precision


def choose_for_cards(config: DiffusionConfig) -> torch.dtype:
    """The type that a configuration computes in on CUDA, on whichever machine this is asked."""
    return devices.resolve_dtype(config.precision, torch.device("cuda"))
