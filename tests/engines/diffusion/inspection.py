"""Looks into a started engine whose components torch runs."""

from __future__ import annotations

import torch

from atelier_engines.diffusion import DiffusionEngine
from atelier_engines.diffusion.runtimes.torch import (
    TorchAutoencoder,
    TorchDenoiser,
    TorchTextEncoder,
)


def unet_of(engine: DiffusionEngine) -> torch.nn.Module:
    """The engine's denoiser."""
    denoiser = engine.inspect().family.runtime.denoiser
    assert isinstance(denoiser, TorchDenoiser)
    module: torch.nn.Module = denoiser.module
    return module


def modules_of(engine: DiffusionEngine) -> dict[str, torch.nn.Module]:
    """The engine's denoiser, autoencoder and first text encoder."""
    runtime = engine.inspect().family.runtime
    assert isinstance(runtime.autoencoder, TorchAutoencoder)
    encoder = runtime.text_encoders[0]
    assert isinstance(encoder, TorchTextEncoder)
    return {"unet": unet_of(engine), "vae": runtime.autoencoder.module, "text": encoder.module}
