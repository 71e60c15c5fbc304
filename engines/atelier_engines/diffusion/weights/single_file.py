"""Recognises a model that is one file by the names and shapes of its tensors.

The names are those of the original repositories. Source: CompVis/stable-diffusion and
Stability-AI/{stablediffusion,generative-models}, as diffusers' single_file_utils.py (0.42.1) lists
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

_FOREIGN = (".double_blocks.", ".joint_blocks.", ".transformer_blocks.", ".blocks.0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What a file turned out to be."""

    family: FamilyName
    """What it is."""
    schedule: Mapping[str, object]
    """What it says of its noise schedule, in diffusers' words."""


def recognise(path: Path, tensors: Mapping[str, TensorHeader]) -> Recognised:
    """What the whole model in a file is.

    Raises:
        ModelMissingError: it is none of ours, or not whole; the text says what it is instead.
    """
    if not _any(tensors, DENOISER):
        raise ModelMissingError(f"{path} {_why_no_model(tensors)}")
    if not _any(tensors, AUTOENCODER):
        raise ModelMissingError(f"{path} holds no autoencoder; it is not a whole model")
    for family, prefixes in TEXT_ENCODERS.items():
        if all(_any(tensors, prefix) for prefix in prefixes.values()):
            return Recognised(family=family, schedule=_schedule(tensors))
    if _any(tensors, REFINER):
        raise ModelMissingError(f"{path} is a refiner of SDXL, which makes no picture from words")
    raise ModelMissingError(f"{path} holds no text encoder of a family that is known here")


def _why_no_model(tensors: Mapping[str, TensorHeader]) -> str:
    if is_lora(tensors):
        return "is a LoRA and no model"
    if any(_any(tensors, prefix) for prefix in ("down_blocks.", "encoder.", "text_model.")):
        return "holds one network of a model; configure the directory of the whole model"
    if any(mark in f".{name}" for name in tensors for mark in _FOREIGN):
        return "is a model of another family; Stable Diffusion 1.5, 2.1 and XL are known here"
    return "is no model in the original layout of Stable Diffusion"


def is_lora(tensors: Mapping[str, TensorHeader]) -> bool:
    """Whether a file holds a low-rank adaptation and not a network's own weights."""
    return any(".lora_" in name or "lora." in name for name in tensors)


def _schedule(tensors: Mapping[str, TensorHeader]) -> Mapping[str, object]:
    """Makers of models for velocity say so by empty tensors.

    Source: ComfyUI, comfy/supported_models.py, class SDXL.
    """
    found: dict[str, object] = {}
    if "v_pred" in tensors:
        found["prediction_type"] = "v_prediction"
    if "ztsnr" in tensors:
        found["rescale_betas_zero_snr"] = True
    return found


def _any(tensors: Mapping[str, TensorHeader], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tensors)
