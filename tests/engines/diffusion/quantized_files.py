"""Quantizes the weights of a model in one file, in the spellings of public programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How one program writes quantized layers."""

    scale: str
    """The last part of the scale's name."""
    dtype: torch.dtype = torch.float8_e4m3fn
    """The type of the stored numbers."""
    by_row: bool = False
    """Whether each row has its own scale."""
    settings: Mapping[str, object] | None = None
    """What is said of each layer; None where the name of the scale says it all."""
    in_metadata: bool = False
    """Whether that is in the file's metadata, and not in a tensor beside each weight."""
    more: Mapping[str, torch.Tensor] | None = None
    """Further tensors of each layer."""


FP8 = {"format": "float8_e4m3fn"}
SPELLINGS = {
    "scaled_fp8": Spelling(scale="scale_weight", more={"scale_input": torch.tensor(1.0)}),
    "comfy_quant": Spelling(
        scale="weight_scale", settings=FP8, more={"input_scale": torch.tensor(3.0)}
    ),
    "metadata": Spelling(scale="weight_scale", settings=FP8, in_metadata=True),
    "scales alone": Spelling(scale="weight_scale"),
    "by row": Spelling(scale="weight_scale", by_row=True),
    "e5m2": Spelling(
        scale="weight_scale", dtype=torch.float8_e5m2, settings={"format": "float8_e5m2"}
    ),
    "int8": Spelling(
        scale="weight_scale", dtype=torch.int8, by_row=True, settings={"format": "int8_tensorwise"}
    ),
}


def write(
    source: Path,
    folder: Path,
    spelling: Spelling,
    *,
    prefix: str = "model.diffusion_model.",
    wanted: Callable[[torch.Tensor], bool] = lambda weight: weight.ndim >= 2,
) -> tuple[Path, Path]:
    """Two new files in `folder`: `source` quantized, and with the numbers that this stands for."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, made = load_file(source), Tensors()
    layers: dict[str, object] = {}
    for name, weight in load_file(source).items():
        layer, _, leaf = name.rpartition(".")
        if not name.startswith(prefix) or leaf != "weight" or not wanted(weight):
            made[name] = weight
            continue
        scale = _scale(weight, spelling)
        made[name], rows = _store(weight, scale, spelling.dtype)
        plain[name] = made[name].float() * rows
        made[f"{layer}.{spelling.scale}"] = scale
        made |= {f"{layer}.{key}": tensor.clone() for key, tensor in (spelling.more or {}).items()}
        if spelling.settings is not None:
            layers[layer] = spelling.settings
    metadata = None
    if spelling.in_metadata:
        metadata = {
            "_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})
        }
    else:
        made |= {f"{layer}.comfy_quant": mark(form) for layer, form in layers.items()}
    if spelling.scale == "scale_weight":
        made[f"{prefix}scaled_fp8"] = torch.empty(0, dtype=spelling.dtype)
    save_file(made, folder / "quantized.safetensors", metadata)
    save_file(plain, folder / "plain.safetensors")
    return folder / "quantized.safetensors", folder / "plain.safetensors"


def mark(settings: object) -> torch.Tensor:
    """What ComfyUI writes beside a quantized weight."""
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def _scale(weight: torch.Tensor, spelling: Spelling) -> torch.Tensor:
    largest = 127.0 if spelling.dtype is torch.int8 else torch.finfo(spelling.dtype).max
    if not spelling.by_row:
        return (weight.abs().max() / largest).clamp_min(1e-12)
    return (weight.abs().flatten(1).amax(dim=1, keepdim=True) / largest).clamp_min(1e-12)


def _store(
    weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = scale.view(-1, *[1] * (weight.ndim - 1)) if scale.numel() > 1 else scale
    numbers = weight / rows
    return (numbers.round() if dtype is torch.int8 else numbers).to(dtype), rows
