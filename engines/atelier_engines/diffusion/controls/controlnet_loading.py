"""Finds and loads ControlNets, and checks that they match the denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors import SafetensorError

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls
from atelier_engines.diffusion.weights import diffusers_layout
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.local.weights import digests, sources
from atelier_engines.local.weights.dequantization import read_tensors
from atelier_engines.local.weights.quantization import require_unquantized

_STEM = "diffusion_pytorch_model"
_CLASS = "ControlNetModel"
_CHANNELS = 4
"""Latent channels; ControlNets do not take the mask channels of inpainting models."""

_SHARED = (
    "cross_attention_dim",
    "block_out_channels",
    "layers_per_block",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
)
"""Settings in which a ControlNet and its denoiser must agree."""


def resolve_paths(config: DiffusionConfig) -> Mapping[str, Path]:
    """Find the directory or file of each ControlNet, and download it if needed and allowed.

    Raises:
        ModelMissingError: one is absent; the message says which places were searched.
    """
    return {
        kind.value: sources.resolve_component(source, "controlnet", download=config.download)
        for kind, source in config_controls.networks(config).items()
    }


def list_files(path: Path) -> tuple[Path, ...]:
    """List the weight files of a ControlNet's directory or file.

    Raises:
        ModelMissingError: the directory has none.
    """
    return diffusers_layout.find_component(path, _STEM, None).weights if path.is_dir() else (path,)


def digest(path: Path) -> str:
    """SHA-256, in hexadecimal, of a ControlNet's file, or of the lines of its directory's files.

    Raises:
        ModelMissingError: the directory has no weights.
    """
    if path.is_dir():
        return digests.digest_folder(path, list_files(path))
    return digests.digest_file(path)


def load(
    path: Path, unet_config: Mapping[str, Any], *, device: torch.device, dtype: torch.dtype
) -> ControlNetModel:
    """Load a ControlNet from a directory or file, onto the device and in evaluation mode.

    Args:
        path: the directory or file.
        unet_config: the configuration of the denoiser that it is used with.
        device: the device that it is to run on.
        dtype: the type that it is to compute in.

    Raises:
        ModelMissingError: it is not a ControlNet, incomplete, or for another model family.
    """
    found = _load_folder(path, dtype) if path.is_dir() else _load_file(path, unet_config, dtype)
    _require_match(path, found, unet_config)
    made: ControlNetModel = found.to(device).eval()
    return made.requires_grad_(requires_grad=False)


def _load_folder(folder: Path, dtype: torch.dtype) -> ControlNetModel:
    part = diffusers_layout.find_component(folder, _STEM, None)
    kind = diffusers_layout.read_object(folder / "config.json").get("_class_name")
    if kind != _CLASS:
        raise ModelMissingError(
            f"{folder} is a {kind or 'model without _class_name'}, not a {_CLASS}"
        )
    try:
        require_unquantized(part.weights)
        found, report = ControlNetModel.from_pretrained(
            folder,
            dtype=dtype,
            variant=part.variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # third-party files fail in many ways
        raise _load_error(folder, error) from error
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise ModelMissingError(
            f"the ControlNet {folder} is incomplete: {len(lost)} tensors are missing or of another "
            f"shape, {lost[0]} first"
        )
    made: ControlNetModel = found
    return made


def _load_file(path: Path, settings: Mapping[str, Any], dtype: torch.dtype) -> ControlNetModel:
    """Load a single file, which has no configuration: that of the denoiser's encoder half is assumed."""
    try:
        tensors = convert_controlnet_checkpoint(
            read_tensors(sources.require_safetensors(path), dtype), settings
        )
    except (OSError, SafetensorError, KeyError, ModelMissingError) as error:
        raise _load_error(path, error) from error
    known = inspect.signature(ControlNetModel.__init__).parameters
    taken = {name: value for name, value in settings.items() if name in known}
    taken |= {"in_channels": _CHANNELS, "conditioning_embedding_out_channels": _embedding(tensors)}
    try:
        with torch.device("meta"):  # random initial weights would be replaced anyway
            network = ControlNetModel(**taken)
        converted = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        network.load_state_dict(converted, assign=True)
    except Exception as error:  # third-party files fail in many ways
        raise ModelMissingError(
            f"{path} does not match the model's denoiser as a ControlNet; if it is for the same "
            "family but has another architecture, configure a directory with its config.json"
        ) from error
    return network


def _embedding(tensors: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    """Channels of the layers that encode the map: the first one, then two for each downsampling."""
    names = ["conv_in", *(f"blocks.{index}" for index in range(1, 32, 2))]
    weights = (tensors.get(f"controlnet_cond_embedding.{name}.weight") for name in names)
    return tuple(weight.shape[0] for weight in weights if weight is not None)


def _require_match(path: Path, network: ControlNetModel, settings: Mapping[str, Any]) -> None:
    """Return if the ControlNet matches a denoiser of that configuration.

    Raises:
        ModelMissingError: it does not.
    """
    for name in _SHARED:
        own, wanted = network.config[name], settings[name]
        if _as_tuple(own) != _as_tuple(wanted):
            raise ModelMissingError(
                f"the ControlNet {path} is for another model family: its {name} is "
                f"{own}, the denoiser's {wanted}"
            )
    expected = {
        "in_channels": _CHANNELS,
        "conditioning_channels": 3,
        "global_pool_conditions": False,
    }
    for name, wanted in expected.items():
        if network.config[name] != wanted:
            raise ModelMissingError(
                f"the ControlNet {path} cannot be used: its {name} is {network.config[name]}, "
                f"not {wanted}"
            )


def _as_tuple(value: object) -> object:
    """Lists from files as tuples, to compare them with defaults."""
    return tuple(value) if isinstance(value, list) else value


def _load_error(path: Path, error: Exception) -> ModelMissingError:
    return ModelMissingError(f"the ControlNet {path} cannot be loaded: {first_line(error)}")
