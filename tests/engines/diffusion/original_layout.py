"""Writes a model that lies in diffusers' layout as one file in the layout of its original makers.

The inverse of what diffusers' single_file_utils.py does, for the small models of these tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_DENOISER_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def write(model: Path, path: Path) -> Path:
    """The model in the directory `model` as the file `path`."""
    tensors = {
        **_prefixed("model.diffusion_model.", denoiser(_weights(model / "unet"))),
        **_prefixed("first_stage_model.", autoencoder(_weights(model / "vae"))),
    }
    first = _text(_weights(model / "text_encoder"))
    if (model / "text_encoder_2").is_dir():
        second = _open_clip(_text(_weights(model / "text_encoder_2")))
        tensors |= _prefixed("conditioner.embedders.0.transformer.", first)
        tensors |= _prefixed("conditioner.embedders.1.model.", second)
    elif model.name == "sd21":
        tensors |= _prefixed("cond_stage_model.model.", _open_clip(first))
    else:
        tensors |= _prefixed("cond_stage_model.transformer.", first)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def denoiser(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The denoiser's tensors under their original names; one resnet a down block."""
    made = {}
    for name, tensor in tensors.items():
        stem, _, end = name.rpartition(".")
        made[_denoiser_name(stem, tensors) + "." + end] = tensor
    return made


def _denoiser_name(stem: str, tensors: Mapping[str, torch.Tensor]) -> str:
    if stem in _DENOISER_ENDS:
        return _DENOISER_ENDS[stem]
    found = re.match(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.?(.*)", stem)
    assert found is not None, stem
    part, block, kind, index, rest = found.groups()
    if kind == "resnets":
        rest = _RESNET[rest]
    layer = int(index)
    if part == "mid":
        place = f"middle_block.{1 if kind == 'attentions' else 2 * layer}"
        return f"{place}.{rest}"
    per_block = 2  # in each direction: one resnet and a resampler down, two resnets up
    if part == "down":
        cell = 1 + per_block * int(block) + (1 if kind == "downsamplers" else layer)
        inner = {"resnets": "0", "attentions": "1", "downsamplers": "0"}[kind]
        return f"input_blocks.{cell}.{inner}.{'op' if kind == 'downsamplers' else rest}"
    cell = per_block * int(block) + (1 if kind == "upsamplers" else layer)
    attends = any(name.startswith(f"up_blocks.{block}.attentions") for name in tensors)
    inner = {"resnets": "0", "attentions": "1", "upsamplers": "2" if attends else "1"}[kind]
    return f"output_blocks.{cell}.{inner}.{'conv' if kind == 'upsamplers' else rest}"


def autoencoder(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The autoencoder's tensors under their original names; four levels, attention as convolution."""
    made = {}
    for name, tensor in tensors.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(
            r"up_blocks\.(\d)\.resnets\.", lambda found: f"up.{3 - int(found[1])}.block.", new
        )
        new = re.sub(
            r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{3 - int(found[1])}.upsample", new
        )
        new = re.sub(
            r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", new
        )
        changed = tensor
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
            for ours, theirs in _ATTENTION.items():
                new = new.replace(f".{ours}.", f".{theirs}.")
            changed = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        made[new] = changed
    return made


def _text(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """With the module's name in front, as the originals have it."""
    return {
        name
        if name.startswith(("text_model.", "text_projection"))
        else f"text_model.{name}": tensor
        for name, tensor in tensors.items()
    }


def _open_clip(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Under OpenCLIP's names, with query, key and value in one."""
    text = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    width = text["final_layer_norm.weight"].shape[0]
    made = {
        "positional_embedding": text["embeddings.position_embedding.weight"],
        "token_embedding.weight": text["embeddings.token_embedding.weight"],
        "ln_final.weight": text["final_layer_norm.weight"],
        "ln_final.bias": text["final_layer_norm.bias"],
        "logit_scale": torch.tensor(1.0),
        "text_projection": text.get("text_projection.weight", torch.eye(width)).T,
    }
    for name, tensor in text.items():
        found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if found is None:
            continue
        layer, inner, end = found.groups()
        block = f"transformer.resblocks.{layer}"
        if inner == "self_attn.q_proj":
            parts = [text[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            made[f"{block}.attn.in_proj_{end}"] = torch.cat(parts)
        elif inner in _OPEN_CLIP:
            made[f"{block}.{_OPEN_CLIP[inner]}.{end}"] = tensor
    return made


def _weights(folder: Path) -> Tensors:
    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def _prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}
