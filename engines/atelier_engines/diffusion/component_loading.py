"""Loads one network with torch: from its files to a module on a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, assert_never, cast

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier_engines.diffusion.weights import files, single_file
from atelier_engines.diffusion.weights.files import ComponentFiles
from atelier_engines.diffusion.weights.model import FilePart, MergedPart, Part
from atelier_engines.errors import ModelMissingError

NetworkT = TypeVar("NetworkT", bound=torch.nn.Module)

_TEXT_MODEL = "text_model."
"""transformers has had this in front of the names of CLIPTextModel, and has it no more."""

_OPEN_CLIPS = (single_file.OPEN_CLIP, single_file.SDXL_OPEN_CLIP)

Tensors = dict[str, torch.Tensor]


def load(
    kind: type[NetworkT], part: Part, precision: torch.dtype, device: torch.device
) -> NetworkT:
    """One network on its device, in evaluation mode and without gradients.

    Raises:
        ModelMissingError: weights are missing in the files; they would be random numbers.
    """
    match part:
        case ComponentFiles():
            network = _from_folder(kind, part, precision)
        case FilePart():
            network = _from_file(kind, part, precision)
        case MergedPart():
            network = load(kind, part.base, precision, device)
            _merge(network, part.lora)
        case _:
            assert_never(part)
    return network.to(device).eval().requires_grad_(requires_grad=False)


def _from_folder(kind: type[NetworkT], part: ComponentFiles, precision: torch.dtype) -> NetworkT:
    network, report = kind.from_pretrained(  # type: ignore[attr-defined]
        part.folder,
        dtype=precision,
        variant=part.variant,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    _refuse_losses(part.folder, lost)
    return cast("NetworkT", network)


def _from_file(kind: type[NetworkT], part: FilePart, precision: torch.dtype) -> NetworkT:
    config: dict[str, Any] = {
        name: value
        for name, value in files.read_object(part.config).items()
        if not name.startswith("_")
    }
    tensors = _read(part)
    made: Any = kind  # its classes have no base for mypy that says how they are made
    if issubclass(kind, UNet2DConditionModel):
        tensors = _denoiser(tensors, config)
        if "conv_in.weight" in tensors:
            config["in_channels"] = tensors["conv_in.weight"].shape[1]
        network = _empty(lambda: made.from_config(config))
    elif issubclass(kind, AutoencoderKL):
        tensors = _autoencoder(tensors, config)
        network = _empty(lambda: made.from_config(config))
    elif issubclass(kind, (CLIPTextModel, CLIPTextModelWithProjection)):
        network = _empty(lambda: made(made.config_class(**config)))
        tensors = _text_encoder(tensors, part.prefix, network)
    else:
        raise TypeError(f"no single file holds a {kind.__name__}")
    expected = network.state_dict()
    lost = [
        name
        for name, tensor in expected.items()
        if name not in tensors or tensors[name].shape != tensor.shape
    ]
    _refuse_losses(part.path, sorted(lost))
    network.load_state_dict({name: _in(precision, tensors[name]) for name in expected}, assign=True)
    return cast("NetworkT", network)


def _in(precision: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(precision) if tensor.is_floating_point() else tensor


def _refuse_losses(where: Path, lost: list[str]) -> None:
    if lost:
        raise ModelMissingError(
            f"the weights in {where} are incomplete: {len(lost)} are missing or of another "
            f"shape, {lost[0]} first"
        )


def _empty(make: Any) -> Any:  # noqa: ANN401 (modules of classes that share no base for mypy)
    with init_empty_weights():
        return make()


def _read(part: FilePart) -> Tensors:
    """The network's tensors, with the names that they have in the file."""
    with safe_open(part.path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(part.prefix)]  # noqa: SIM118 (no dict)
        return {name: file.get_tensor(name) for name in names}


def _denoiser(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """Under diffusers' names; a file of the denoiser alone may have either's, prefix or not."""
    if any(".input_blocks." in f".{name}" for name in tensors):
        prefixed = {
            single_file.DENOISER + name.removeprefix(single_file.DENOISER): tensor
            for name, tensor in tensors.items()
        }
        return cast("Tensors", convert_ldm_unet_checkpoint(prefixed, config))
    return tensors


def _autoencoder(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """As `_denoiser`, of the autoencoder."""
    if any(".mid.block_1." in name for name in tensors):
        prefixed = {
            single_file.AUTOENCODER + name.removeprefix(single_file.AUTOENCODER): tensor
            for name, tensor in tensors.items()
        }
        return cast("Tensors", convert_ldm_vae_checkpoint(prefixed, config))
    return tensors


def _text_encoder(tensors: Tensors, prefix: str, network: torch.nn.Module) -> Tensors:
    if prefix in _OPEN_CLIPS:
        found = convert_open_clip_checkpoint(network, tensors, prefix=prefix)
    else:
        found = convert_ldm_clip_checkpoint(tensors)
    bare = {name.removeprefix(_TEXT_MODEL): tensor for name, tensor in found.items()}
    return {name: bare[key] for name in network.state_dict() if (key := _bare(name)) in bare}


def _bare(name: str) -> str:
    return name.removeprefix(_TEXT_MODEL)


def _merge(network: torch.nn.Module, lora: Path) -> None:
    """Add a LoRA to the denoiser's weights for good.

    Raises:
        ModelMissingError: it is none for this denoiser.
    """
    denoiser = cast("Any", network)
    state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(
        str(lora.parent),
        weight_name=lora.name,
        local_files_only=True,
        use_safetensors=True,
        unet_config=denoiser.config,
    )
    if not any(name.startswith("unet.") for name in state):
        raise ModelMissingError(f"{lora} is no LoRA for a denoiser")
    denoiser.load_lora_adapter(state, prefix="unet", network_alphas=alphas, adapter_name="variant")
    denoiser.fuse_lora()
    denoiser.unload_lora()
