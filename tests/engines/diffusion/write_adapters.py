"""Writes random ControlNets and LoRAs for a random model: small, and the same every time."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

LORA_FILE = "pytorch_lora_weights.safetensors"


def write_controlnet(folder: Path, model: Path, *, seed: int) -> Path:
    """A ControlNet for the denoiser of a model directory; strong enough to be seen."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(model / "unet"),
        conditioning_embedding_out_channels=(8, 16, 16, 16),
    )
    for name, weight in network.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond")):
            torch.nn.init.normal_(weight, std=0.1)
    network.save_pretrained(folder)
    return folder


def write_lora(folder: Path, model: Path, *, seed: int, rank: int = 4, text: bool = True) -> Path:
    """A LoRA in diffusers' format for a directory of Stable Diffusion XL, in its own directory."""
    layers = _layers(model, seed, rank)
    if not text:
        layers = {"unet": layers["unet"]}
    named = {f"{part}_lora_layers": tensors for part, tensors in layers.items()}
    StableDiffusionXLPipeline.save_lora_weights(folder, **named)
    return folder


def write_kohya_lora(path: Path, model: Path, *, seed: int, rank: int = 4) -> Path:
    """The same in the format of kohya's trainer, with an alpha that halves it."""
    names = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    tensors: dict[str, torch.Tensor] = {}
    for part, layers in _layers(model, seed, rank).items():
        for key, tensor in layers.items():
            place, _, kind = key.removesuffix(".weight").rpartition(".")
            if part == "text_encoder":
                place = f"text_model.{place}"
            stem = f"{names[part]}_{place.replace('.', '_')}"
            tensors[f"{stem}.lora_{'down' if kind == 'lora_A' else 'up'}.weight"] = tensor
            tensors[f"{stem}.alpha"] = torch.tensor(rank / 2)
    save_file(tensors, path)
    return path


def _layers(model: Path, seed: int, rank: int) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a random LoRA by network, in PEFT's names."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    torch.manual_seed(seed)
    found = {}
    for part, places in {
        "unet": ["to_q", "to_k", "to_v", "to_out.0"],
        "text_encoder": ["q_proj", "v_proj", "out_proj"],
        "text_encoder_2": ["q_proj", "v_proj", "out_proj"],
    }.items():
        network = getattr(pipeline, part)
        network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=places))
        for name, weight in network.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, std=0.2)
        found[part] = {
            key: tensor.detach().clone()
            for key, tensor in get_peft_model_state_dict(network).items()
        }
    return found
