"""The names that trainers and tools give to the layers of a model in the files of LoRAs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

DENOISER = "unet"
"""Name of the denoiser in files of LoRAs; text encoders are `text_encoder` and `text_encoder_2`."""

_TEXT_MODEL = "text_model."
_FLAT_PREFIXES: Mapping[str, tuple[str, ...]] = {
    DENOISER: ("lora_unet_", "lycoris_"),
    "text_encoder": ("lora_te_", "lora_te1_", "lycoris_te_", "lycoris_te1_"),
    "text_encoder_2": ("lora_te2_", "lycoris_te2_"),
}
"""Prefixes of names with underscores: kohya's and OneTrainer's, and LyCORIS' own."""
_DOTTED_PREFIXES: Mapping[str, tuple[str, ...]] = {
    DENOISER: (
        "unet.",
        "",
        "base_model.model.",
        "unet.base_model.model.",
        "diffusion_model.",
        "model.diffusion_model.",
        "lora_unet.",
    ),
    "text_encoder": (
        "text_encoder.",
        "text_encoder.base_model.model.",
        "clip_l.transformer.",
        "text_encoders.clip_l.transformer.",
        "clip_h.transformer.",
        "text_encoders.clip_h.transformer.",
        "clip_l.",
        "lora_te.",
        "lora_te1.",
    ),
    "text_encoder_2": (
        "text_encoder_2.",
        "text_encoder_2.base_model.model.",
        "clip_g.transformer.",
        "text_encoders.clip_g.transformer.",
        "clip_g.",
        "lora_te2.",
    ),
}
"""Prefixes of names with dots: diffusers', PEFT's, ComfyUI's, and OneTrainer's two (OMI and its backups).

Source of the last: github.com/Nerogar/OneTrainer, modules/util/convert/lora/convert_sdxl_lora.py.
"""

_OLD_SPELLINGS = (
    (".processor.", "."),
    (".self_attn.to_q", ".self_attn.q_proj"),
    (".self_attn.to_k", ".self_attn.k_proj"),
    (".self_attn.to_v", ".self_attn.v_proj"),
    (".self_attn.to_out", ".self_attn.out_proj"),
)
"""diffusers' names of attention layers before PEFT, and the names since."""

_ORIGINAL_NAMES = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ORIGINAL_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a model."""

    network: str
    """The component: unet, text_encoder or text_encoder_2."""
    place: str
    """Its name in the component."""


class LayerNames:
    """Finds the layers of a model by the names that files of LoRAs use."""

    def __init__(self, networks: Sequence[tuple[str, torch.nn.Module]]) -> None:
        """Collect the names of all layers that have weights; a component's first module stands for all."""
        self._layers: dict[str, Layer] = {}
        for network, module in reversed(networks):
            for place in _places(module):
                for name in _names(network, place, module):
                    self._layers[name] = Layer(network, place)

    def find(self, name: str) -> Layer | None:
        """The layer, or None if the model has none of that name."""
        found = self._layers.get(name)
        if found is not None:
            return found
        for old, new in _OLD_SPELLINGS:
            name = name.replace(old, new)
        return self._layers.get(f"{name}.0" if name.endswith(".to_out") else name)


def _places(module: torch.nn.Module) -> Iterator[str]:
    for place, layer in module.named_modules():
        # PEFT's layers have the weights of the layer that they wrap, and layers of their own inside.
        if place and ".base_layer" not in place and "lora_" not in place and _has_weight(layer):
            yield place


def _has_weight(layer: torch.nn.Module) -> bool:
    return isinstance(getattr(layer, "weight", None), torch.Tensor)


def _names(network: str, place: str, module: torch.nn.Module) -> Iterator[str]:
    for spelling in _spellings(network, place, module):
        for prefix in _DOTTED_PREFIXES[network]:
            yield prefix + spelling
        flat = spelling.replace(".", "_")
        for prefix in _FLAT_PREFIXES[network]:
            yield prefix + flat


def _spellings(network: str, place: str, module: torch.nn.Module) -> Iterator[str]:
    yield place
    if network == DENOISER:
        settings = cast("Any", module).config
        original = _original_name(place, module, settings.layers_per_block)
        if original is not None:
            yield original
    else:
        bare = place.removeprefix(_TEXT_MODEL)
        yield from (bare, _TEXT_MODEL + bare)


def _original_name(place: str, module: torch.nn.Module, layers: int) -> str | None:
    """The layer's name in the original code of Stable Diffusion, which numbers the blocks otherwise.

    Args:
        place: its name in diffusers' module.
        module: the denoiser.
        layers: number of its residual layers per block.
    """
    if place in _ORIGINAL_NAMES:
        return _ORIGINAL_NAMES[place]
    if middle := _MIDDLE.fullmatch(place):
        kind, number, rest = middle.groups()
        cell = 1 if kind == "attentions" else 2 * int(number)
        return f"middle_block.{cell}.{_inner_name(kind, rest)}"
    if (block := _BLOCK.fullmatch(place)) is None:
        return None
    side, outer, kind, number, rest = block.groups()
    first = int(outer) * (layers + 1)
    match kind:
        case "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.op"
        case "upsamplers":
            inner = 2 if f"up_blocks.{outer}.attentions" in dict(module.named_modules()) else 1
            return f"output_blocks.{first + layers}.{inner}.{rest}"
        case _:
            cell = first + int(number) + (side == "down")
            column = 1 if kind == "attentions" else 0
            name = "input" if side == "down" else "output"
            return f"{name}_blocks.{cell}.{column}.{_inner_name(kind, rest)}"


def _inner_name(kind: str, rest: str) -> str:
    return _ORIGINAL_RESNET.get(rest, rest) if kind == "resnets" else rest
