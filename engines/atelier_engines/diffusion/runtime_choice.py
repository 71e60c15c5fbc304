"""Decides what runs each component where the configuration leaves it to the engine."""

from __future__ import annotations

import torch

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.runtimes.onnx.opening import require_installed
from atelier_engines.diffusion.runtimes_config import (
    ComponentRuntimes,
    RuntimeName,
    same_for_all,
)
from atelier_engines.diffusion.weights_config import TINY
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds.store import find_directory

_FLOAT32 = ("auto", "float32")


def decide(config: DiffusionConfig, device: torch.device) -> DiffusionConfig:
    """The configuration with a runtime for every component; itself, unless its `runtime` is `auto`.

    ONNX Runtime runs what takes it less time than torch and is built within seconds: the networks of the small model,
    whose graphs come with it, on a CPU. A network that it cannot be built for is run by torch.

    Args:
        config: of an engine.
        device: what its `device` is here.
    """
    if config.runtime != "auto":
        return config
    return config.model_copy(
        update={
            "runtime": _choose(config, device),
            "on_missing_build": config.on_missing_build or "build_or_fallback",
        }
    )


def _choose(config: DiffusionConfig, device: torch.device) -> ComponentRuntimes:
    if config.model != TINY or device.type != "cpu" or config.precision not in _FLOAT32:
        return same_for_all("torch")
    try:
        require_installed()
        find_directory(config.builds_directory)
    except EngineUnavailableError:
        return same_for_all("torch")
    for_layers_of_torch = bool(config.compile) or config.channels_last is not None
    other_vae = config.vae is not None or config.vae_precision not in _FLOAT32
    return ComponentRuntimes(
        text_encoders="onnx",
        denoiser=_unless(bool(config.variants) or for_layers_of_torch),
        controlnets=_unless(bool(config.controlnets) or for_layers_of_torch),
        autoencoder=_unless(other_vae),
    )


def _unless(torch_is_needed: bool) -> RuntimeName:  # noqa: FBT001 (the condition itself)
    return "torch" if torch_is_needed else "onnx"
