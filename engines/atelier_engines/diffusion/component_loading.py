"""Loads one component with torch: from its files to a module on a device."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, assert_never, cast

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]  # accelerate has no types
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier_engines.diffusion.loras.merging import merged_parameters
from atelier_engines.diffusion.loras.names import DENOISER
from atelier_engines.diffusion.loras.weights import read
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks
from atelier_engines.diffusion.weights import diffusers_layout, single_file
from atelier_engines.diffusion.weights.diffusers_layout import ComponentFiles
from atelier_engines.diffusion.weights.model_files import (
    ComponentSource,
    MergedComponent,
    SingleFileComponent,
    find_config,
)
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import safetensors_header
from atelier_engines.local.weights.dequantization import read_tensors
from atelier_engines.local.weights.quantization import find_quantization

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)

_TEXT_MODEL = "text_model."
"""A prefix that transformers has had in the names of CLIPTextModel, and has no more."""

_OPEN_CLIPS = (single_file.OPEN_CLIP, single_file.SDXL_OPEN_CLIP, single_file.REFINER)

_INPUT_WEIGHTS = ("input_blocks.0.0.weight", "conv_in.weight")
"""The first convolution of a denoiser, in the original layout and in diffusers'."""

Tensors = dict[str, torch.Tensor]


def read_config(kind: type[torch.nn.Module], source: ComponentSource) -> Mapping[str, Any]:
    """The configuration of a component, with its class's defaults; no weights are read.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    found = _without_private(diffusers_layout.read_object(find_config(source)))
    if issubclass(kind, (CLIPTextModel, CLIPTextModelWithProjection)):
        config: Any = kind.config_class
        values: dict[str, Any] = config(**found).to_dict()
        return values
    parameters = inspect.signature(kind.__init__).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    found = {**defaults, **found}
    if isinstance(source, SingleFileComponent) and issubclass(kind, UNet2DConditionModel):
        found["in_channels"] = _count_input_channels(source.path, found["in_channels"])
    return found


def load(
    kind: type[ModuleT],
    source: ComponentSource,
    dtype: torch.dtype,
    device: torch.device,
    *,
    channels_last: bool = False,
    blocks: CompiledBlocks | None = None,
) -> ModuleT:
    """A component on its device, in evaluation mode and without gradients.

    Args:
        kind: its class.
        source: its files.
        dtype: the type that it is to compute in.
        device: the device that it is to run on.
        channels_last: whether the weights of convolutions are stored so.
        blocks: compiles its repeated blocks; None where they are not compiled.

    Raises:
        ModelMissingError: weights are missing in the files; they would be random numbers.
    """
    match source:
        case ComponentFiles() if any(find_quantization(path).scales for path in source.weights):
            module = _load_quantized_folder(kind, source, dtype)
        case ComponentFiles():
            module = _load_folder(kind, source, dtype)
        case SingleFileComponent():
            module = _load_single_file(kind, source, dtype)
        case MergedComponent():
            module = load(kind, source.base, dtype, device)
            _merge_lora(module, source.lora)
        case _:
            assert_never(source)
    module = module.to(device).eval().requires_grad_(requires_grad=False)
    return prepare(module, channels_last=channels_last, blocks=blocks)


def prepare(module: ModuleT, *, channels_last: bool, blocks: CompiledBlocks | None) -> ModuleT:
    """The same module; see `load` for the arguments."""
    if channels_last:
        module.to(memory_format=torch.channels_last)
    return module if blocks is None else blocks.prepare(module)


def _load_folder(kind: type[ModuleT], source: ComponentFiles, dtype: torch.dtype) -> ModuleT:
    module, report = kind.from_pretrained(  # type: ignore[attr-defined]  # of every class that is loaded so
        source.folder,
        dtype=dtype,
        variant=source.variant,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    _require_complete(source.folder, missing)
    return cast("ModuleT", module)


def _load_quantized_folder(
    kind: type[ModuleT], source: ComponentFiles, dtype: torch.dtype
) -> ModuleT:
    tensors: Tensors = {}
    for path in source.weights:
        tensors |= read_tensors(path, dtype)
    config = _without_private(diffusers_layout.read_object(find_config(source)))
    return _build(kind, config, tensors, dtype, where=source.folder)


def _load_single_file(
    kind: type[ModuleT], source: SingleFileComponent, dtype: torch.dtype
) -> ModuleT:
    config = _without_private(diffusers_layout.read_object(source.config))
    tensors = read_tensors(source.path, dtype, prefix=source.prefix)
    return _build(kind, config, tensors, dtype, where=source.path, prefix=source.prefix)


def _build(
    kind: type[ModuleT],
    config: dict[str, Any],
    tensors: Tensors,
    dtype: torch.dtype,
    *,
    where: Path,
    prefix: str = "",
) -> ModuleT:
    """A module of tensors with diffusers' names or the original ones, which begin with `prefix`."""
    if issubclass(kind, UNet2DConditionModel):
        tensors = _convert_unet(tensors, config)
        if "conv_in.weight" in tensors:
            config["in_channels"] = tensors["conv_in.weight"].shape[1]
        module = create_empty(kind, config)
    elif issubclass(kind, AutoencoderKL):
        tensors = _convert_vae(tensors, config)
        module = create_empty(kind, config)
    elif issubclass(kind, (CLIPTextModel, CLIPTextModelWithProjection)):
        module = create_empty(kind, config)
        tensors = _convert_text_encoder(tensors, prefix, module)
    else:
        raise TypeError(f"no single file holds a {kind.__name__}")
    expected = module.state_dict()
    missing = [
        name
        for name, tensor in expected.items()
        if name not in tensors or tensors[name].shape != tensor.shape
    ]
    _require_complete(where, sorted(missing))
    module.load_state_dict(
        {name: _convert_dtype(tensors[name], dtype) for name in expected}, assign=True
    )
    return module


def create_empty(kind: type[ModuleT], config: Mapping[str, Any]) -> ModuleT:
    """A component with all its layers, whose weights have shapes and no numbers; LOAD_LOCK must be held."""
    made: Any = kind  # its classes have no base for mypy that says how they are made
    with init_empty_weights():
        if issubclass(kind, (CLIPTextModel, CLIPTextModelWithProjection)):
            return cast("ModuleT", made(made.config_class(**config)))
        return cast("ModuleT", made.from_config(config))


def _without_private(config: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _count_input_channels(path: Path, otherwise: int) -> int:
    """Channels that the denoiser in a file takes: more than four if it is made to inpaint."""
    for name, tensor in safetensors_header.read(path).items():
        bare = name.removeprefix(single_file.DENOISER)
        if bare in _INPUT_WEIGHTS and len(tensor.shape) > 1:
            return tensor.shape[1]
    return otherwise


def _convert_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _require_complete(path: Path, missing: list[str]) -> None:
    if missing:
        raise ModelMissingError(
            f"the weights in {path} are incomplete: {len(missing)} are missing or of another "
            f"shape, {missing[0]} first"
        )


def _convert_unet(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """Under diffusers' names; a file of the denoiser alone may have either's, prefix or not."""
    if any(".input_blocks." in f".{name}" for name in tensors):
        prefixed = {
            single_file.DENOISER + name.removeprefix(single_file.DENOISER): tensor
            for name, tensor in tensors.items()
        }
        return cast("Tensors", convert_ldm_unet_checkpoint(prefixed, config))
    return tensors


def _convert_vae(tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """As `_convert_unet`, of the autoencoder."""
    if any(".mid.block_1." in name for name in tensors):
        prefixed = {
            single_file.AUTOENCODER + name.removeprefix(single_file.AUTOENCODER): tensor
            for name, tensor in tensors.items()
        }
        return cast("Tensors", convert_ldm_vae_checkpoint(prefixed, config))
    return tensors


def _convert_text_encoder(tensors: Tensors, prefix: str, module: torch.nn.Module) -> Tensors:
    if not prefix:
        found = tensors
    elif prefix in _OPEN_CLIPS:
        found = convert_open_clip_checkpoint(module, tensors, prefix=prefix)
    else:
        found = convert_ldm_clip_checkpoint(tensors)
    bare = {name.removeprefix(_TEXT_MODEL): tensor for name, tensor in found.items()}
    return {
        name: bare[key]
        for name in module.state_dict()
        if (key := name.removeprefix(_TEXT_MODEL)) in bare
    }


def _merge_lora(module: torch.nn.Module, lora: Path) -> None:
    """Add a LoRA to the denoiser's weights for good.

    Raises:
        ModelMissingError: the file is not a LoRA for this denoiser.
    """
    try:
        found = read(lora.stem, lora, [(DENOISER, module)])
    except ModelMissingError as error:
        raise ModelMissingError(f"{lora} is not a LoRA for a denoiser: {error}") from error
    for place, change in found.changes[DENOISER].items():
        layer = module.get_submodule(place)
        for kind, merged in merged_parameters(layer, [(change, 1.0)]):
            getattr(layer, kind).data = merged
