"""What the tensors in a file of a LoRA are, by their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from atelier_engines.diffusion.embeddings.catalog import BUNDLED

_LOW_RANK = {"down": ("A", "down"), "up": ("B", "up")}
_PARTS = {
    suffix: part
    for part, (peft, kohya) in _LOW_RANK.items()
    for suffix in (
        f".lora_{kohya}.weight",  # kohya's, LyCORIS', OneTrainer's, ComfyUI's
        f".lora_{peft}.weight",  # PEFT's and diffusers'
        f".lora_{peft}.default.weight",
        f".lora_linear_layer.{kohya}.weight",  # diffusers' before PEFT
        f"_lora.{kohya}.weight",
        f".lora.{kohya}.weight",
    )
}
_PARTS |= {
    ".lora_mid.weight": "mid",
    ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector.default": "magnitude",
    ".lora_magnitude_vector.default.weight": "magnitude",
    ".diff": "diff",
    ".diff_b": "diff_b",
    ".w_norm": "diff",
    ".b_norm": "diff_b",
}
_PARTS |= {
    f".{name}": name
    for name in (
        *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
        *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    )
}
_BY_LENGTH = sorted(_PARTS, key=len, reverse=True)

_REJECTED = {
    r"\.(oft_blocks|oft_diag|oft_R|boft_R)\b": "OFT, which rotates the weights",
    r"\.[ab][12]\.weight$": "GLoRA, which multiplies the weights",
    r"\.(on_input|ia3_l)\b": "(IA)³, which multiplies the weights",
    r"\.vera_lambda": "VeRA, which needs tensors that the file does not hold",
    r"\.lora_[AB]\.(default\.)?bias$": "LoRA with biases (lora_bias)",
    r"\.lora_embedding_[AB]\b": "LoRA for an embedding",
    r"^lora_controlnet$": "Control-LoRA, which is a ControlNet",
    r"^(clip_[lg]|emb_params|string_to_param.*|string_to_token.*)$": "a textual inversion embedding",
    r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\..*\.(weight|bias)$": (
        "a whole model or a part of one"
    ),
}
"""Patterns of names in files that are refused, and what such a file is."""


def split(key: str) -> tuple[str, str] | None:
    """The layer's name and which part of its change a tensor is; None if it is none that can be applied."""
    for suffix in _BY_LENGTH:
        if key.endswith(suffix) and len(key) > len(suffix):
            return key.removesuffix(suffix), _PARTS[suffix]
    return None


def group(keys: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """The keys of each layer by their part; only of those that `split` knows."""
    layers: dict[str, dict[str, str]] = {}
    for key in keys:
        if (found := split(key)) is not None:
            layer, part = found
            layers.setdefault(layer, {})[part] = key
    return layers


def duplicate(keys: Iterable[str]) -> str | None:
    """A key whose part of its layer has another key too, in another spelling; None if there is none."""
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if (found := split(key)) in seen:
            return key
        if found is not None:
            seen.add(found)
    return None


def rejection(keys: Collection[str]) -> str | None:
    """Why a file cannot be applied, with the first key that says so; None if all of it can."""
    unknown = [key for key in keys if split(key) is None and not key.startswith(BUNDLED)]
    for pattern, kind in _REJECTED.items():
        for key in unknown:
            if re.search(pattern, key):
                return f"its key {key} marks {kind}"
    if unknown:
        return f"its key {unknown[0]} is of no known format"
    twice = duplicate(keys)
    return None if twice is None else f"its key {twice} is there twice, in two spellings"
