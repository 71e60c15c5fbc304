"""Reads LoRAs of all common formats, and checks that they match the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line

DENOISER = "unet"
"""Prefix of the denoiser's tensors; those of text encoders are numbered."""

_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraWeights:
    """A LoRA as diffusers' loaders take it."""

    name: str
    """Its name, for messages."""
    tensors: Mapping[str, torch.Tensor]
    """The tensors of all components; each name begins with the component's prefix."""
    alphas: Mapping[str, float] | None
    """Scales of the layers, in other trainers' formats."""
    metadata: Mapping[str, Any] | None
    """diffusers' metadata about the training, from the file."""

    def targets(self, network: str) -> bool:
        """Whether it changes a component: unet, text_encoder or text_encoder_2."""
        return any(name.startswith(f"{network}.") for name in self.tensors)


def read(name: str, path: Path, denoiser: Mapping[str, Any] | None) -> LoraWeights:
    """Read a LoRA from a file in diffusers', PEFT's or kohya's format.

    Args:
        name: the LoRA's, for messages.
        path: the file.
        denoiser: configuration of SDXL's, whose blocks other trainers number differently; None for other
            families.

    Raises:
        ModelMissingError: the file is broken, or not a LoRA.
    """
    try:
        tensors, alphas, metadata = StableDiffusionXLPipeline.lora_state_dict(
            str(path),
            unet_config=denoiser,
            use_safetensors=True,
            local_files_only=True,
            return_lora_metadata=True,
        )
    except Exception as error:  # third-party files fail in many ways
        raise ModelMissingError(
            f"the LoRA {name} in {path} cannot be read: {first_line(error)}"
        ) from error
    if not tensors or any("lora" not in key for key in tensors):
        raise ModelMissingError(f"{path} is not a supported LoRA, or contains more than a LoRA")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ModelMissingError(f"the LoRA {name} in {path} is broken: it contains NaN or infinity")
    return LoraWeights(name=name, tensors=tensors, alphas=alphas, metadata=metadata)


def require_match(lora: LoraWeights, networks: Sequence[tuple[str, torch.nn.Module]]) -> None:
    """Return if every tensor of the LoRA matches the model.

    Args:
        lora: the LoRA.
        networks: the model's components, each with its prefix in LoRA files.

    Raises:
        ModelMissingError: it is for another model or family.
    """
    known = {prefix for prefix, _ in networks}
    unknown = {key.partition(".")[0] for key in lora.tensors} - known
    if unknown:
        raise _mismatch_error(lora, f"it is for a model with {', '.join(sorted(unknown))}")
    for prefix, network in networks:
        for problem in _mismatches(_tensors_for(lora, prefix, network), network):
            raise _mismatch_error(lora, problem)


def _tensors_for(
    lora: LoraWeights, prefix: str, network: torch.nn.Module
) -> Mapping[str, torch.Tensor]:
    """The tensors of one component under PEFT's names, translated as diffusers' loaders do."""
    own = {
        key.removeprefix(f"{prefix}."): tensor
        for key, tensor in lora.tensors.items()
        if key.startswith(f"{prefix}.")
    }
    if not own:
        return own
    if prefix == DENOISER:
        translated = own if "lora_A" in next(iter(own)) else convert_unet_state_dict_to_peft(own)
    else:
        translated = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        if not hasattr(network, "text_model"):
            translated = {key.removeprefix("text_model."): t for key, t in translated.items()}
    return dict(translated)


def _mismatches(own: Mapping[str, torch.Tensor], network: torch.nn.Module) -> Iterator[str]:
    for key, tensor in own.items():
        if not key.endswith((_DOWN, _UP)):
            yield f"{key} is of an unsupported kind"
            continue
        place = key.removesuffix(_DOWN).removesuffix(_UP)
        try:
            shape = tuple(cast("torch.Tensor", network.get_submodule(place).weight).shape)
        except AttributeError:
            yield f"the model has no {place}"
            continue
        wanted = (tensor.shape[0], *shape[1:])
        if key.endswith(_UP):
            wanted = (shape[0], tensor.shape[1], *(1 for _ in shape[2:]))
        if tuple(tensor.shape) != wanted:
            yield f"{key} has the shape {tuple(tensor.shape)}, but the model needs {wanted}"


def _mismatch_error(lora: LoraWeights, explanation: str) -> ModelMissingError:
    return ModelMissingError(f"the LoRA {lora.name} does not match this model: {explanation}")
