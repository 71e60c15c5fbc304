"""Recognises a model that is one file by the names and shapes of its tensors.

The names are those of the original repositories. Source: CompVis/stable-diffusion and
Stability-AI/{stablediffusion,generative-models}, as diffusers' single_file_utils.py (0.42.1) lists
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights.safetensors_header import TensorHeader

FamilyName = Literal["sd15", "sd21", "sdxl"]

DENOISER = "model.diffusion_model."
AUTOENCODER = "first_stage_model."
CLIP = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
SDXL_CLIP = "conditioner.embedders.0.transformer."
SDXL_OPEN_CLIP = "conditioner.embedders.1.model."
REFINER = "conditioner.embedders.0.model."

TEXT_ENCODERS: Mapping[FamilyName, Mapping[str, str]] = {
    "sd15": {"text_encoder": CLIP},
    "sd21": {"text_encoder": OPEN_CLIP},
    "sdxl": {"text_encoder": SDXL_CLIP, "text_encoder_2": SDXL_OPEN_CLIP},
}
"""How the names of each text encoder's tensors begin."""

_FIRST_ATTENTION = f"{DENOISER}input_blocks.1.1."
"""Layers of Stable Diffusion 2's denoiser that SDXL's refiner does not have."""

_FOREIGN = (".double_blocks.", ".joint_blocks.", ".transformer_blocks.", ".blocks.0.")


def recognise_family(
    path: Path, tensors: Mapping[str, TensorHeader], *, needs_autoencoder: bool
) -> FamilyName:
    """The family of the model in a file.

    Args:
        path: the file.
        tensors: what it holds.
        needs_autoencoder: whether its own autoencoder is used.

    Raises:
        ModelMissingError: it is not a supported model, or not a whole one; the message says what it is instead.
    """
    if not _any(tensors, DENOISER):
        raise ModelMissingError(f"{path} {_explain_no_model(tensors)}")
    if _any(tensors, REFINER) and not _any(tensors, _FIRST_ATTENTION):
        raise ModelMissingError(f"{path} is a refiner of SDXL, which does no text-to-image")
    if needs_autoencoder and not _any(tensors, AUTOENCODER):
        raise ModelMissingError(
            f"{path} contains no autoencoder; it is not a whole model: set `vae` to one"
        )
    for family in TEXT_ENCODERS:
        prefixes = find_text_encoders(family, tensors)
        if all(_any(tensors, prefix) for prefix in prefixes.values()):
            return family
    raise ModelMissingError(f"{path} contains no text encoder of a supported family")


def find_text_encoders(
    family: FamilyName, tensors: Mapping[str, TensorHeader]
) -> Mapping[str, str]:
    """How the names of each text encoder's tensors begin in this file.

    Stable Diffusion 2 has its text encoder where SDXL's refiner has it, if sgm has written the file, as SD-Turbo's.
    """
    if family == "sd21" and not _any(tensors, OPEN_CLIP):
        return {"text_encoder": REFINER}
    return TEXT_ENCODERS[family]


def _explain_no_model(tensors: Mapping[str, TensorHeader]) -> str:
    if is_lora(tensors):
        return "is a LoRA, not a model"
    if any(_any(tensors, prefix) for prefix in ("down_blocks.", "encoder.", "text_model.")):
        return "contains one component of a model; configure the directory of the whole model"
    if any(mark in f".{name}" for name in tensors for mark in _FOREIGN):
        return "is a model of another family; Stable Diffusion 1.5, 2.1 and XL are supported"
    return "is not a model in the original layout of Stable Diffusion"


def is_lora(tensors: Mapping[str, TensorHeader]) -> bool:
    """Whether a file holds a low-rank adaptation and not a component's own weights."""
    return any(".lora_" in name or "lora." in name for name in tensors)


def _any(tensors: Mapping[str, TensorHeader], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)
