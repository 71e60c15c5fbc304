"""Validation of graphs as in InvokeAI's server: node types, their fields, and their connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_FAMILIES = (
    "deis lms heun euler kdpm_2 kdpm_2_a dpmpp_2s dpmpp_2m dpmpp_2m_sde dpmpp_3m dpmpp_sde unipc"
)
_KARRAS = {f"{name}{end}" for name in _FAMILIES.split(" ") for end in ("", "_k")}
SCHEDULERS = _KARRAS | {"ddim", "ddpm", "pndm", "euler_a", "er_sde", "lcm", "tcd"}
_SIZES = {"original_width", "original_height", "target_width", "target_height"}


@dataclass(frozen=True, slots=True)
class Node:
    """One type of node."""

    fields: frozenset[str]
    """Fields that can be set."""
    inputs: frozenset[str] = frozenset()
    """Inputs that must be connected."""
    outputs: frozenset[str] = frozenset()
    """Outputs that can be connected."""
    optional: frozenset[str] = frozenset()
    """Inputs that may be connected."""


def _node(fields: str, inputs: str = "", outputs: str = "", optional: str = "") -> Node:
    return Node(*(frozenset(text.split()) for text in (fields, inputs, outputs, optional)))


NODES: Mapping[str, Node] = {
    "sdxl_model_loader": _node("model", outputs="unet clip clip2 vae"),
    "sdxl_lora_loader": _node("lora weight", "unet clip clip2", "unet clip clip2"),
    "sdxl_compel_prompt": _node(
        "prompt style crop_top crop_left " + " ".join(_SIZES), "clip clip2", "conditioning"
    ),
    "noise": _node("seed width height use_cpu", outputs="noise"),
    "i2l": _node("image fp32 tiled", "vae", "latents"),
    "create_denoise_mask": _node("image mask fp32 tiled", "vae", "denoise_mask"),
    "controlnet": _node(
        "image control_model control_weight begin_step_percent end_step_percent", outputs="control"
    ),
    "collect": _node("", "item", "collection"),
    "denoise_latents": _node(
        "steps cfg_scale scheduler denoising_start denoising_end",
        "unet positive_conditioning negative_conditioning noise",
        "latents",
        "latents denoise_mask control",
    ),
    "l2i": _node("fp32 tiled board", "latents vae", "image"),
}
_EVERY = {"id", "type", "is_intermediate", "use_cache"}


def find_problems(
    graph: Mapping[str, Any],
    *,
    models: Mapping[str, Any],
    images: Mapping[str, Any],
    boards: Mapping[str, str],
) -> Iterator[str]:
    """Everything that the server would reject, at once or when the node is run."""
    nodes = graph["nodes"]
    for name, node in nodes.items():
        kind = NODES.get(node["type"])
        if kind is None or node["id"] != name:
            yield f"unknown node {node['type']} {name}"
            continue
        for field in node.keys() - _EVERY - kind.fields:
            yield f"{name} has no field {field}"
        connected = {
            edge["destination"]["field"]
            for edge in graph["edges"]
            if edge["destination"]["node_id"] == name
        }
        for field in (kind.inputs - connected) | (connected - kind.inputs - kind.optional):
            yield f"{name}.{field} is not connected, or cannot be"
        yield from _find_name_problems(name, node, models=models, images=images, boards=boards)
        yield from _find_value_problems(name, node)
    for edge in graph["edges"]:
        source = nodes.get(edge["source"]["node_id"], {"type": ""})
        if edge["source"]["field"] not in getattr(NODES.get(source["type"]), "outputs", ()):
            yield f"an edge has no source: {edge['source']}"


def _find_name_problems(
    name: str,
    node: Mapping[str, Any],
    *,
    models: Mapping[str, Any],
    images: Mapping[str, Any],
    boards: Mapping[str, str],
) -> Iterator[str]:
    for field, kind in (("model", "main"), ("lora", "lora"), ("control_model", "controlnet")):
        if field in node and models.get(node[field]["key"], {}).get("type") != kind:
            yield f"{name}: unknown {kind}"
    for field in ("image", "mask"):
        if field in node and node[field]["image_name"] not in images:
            yield f"{name}: no image {node[field]}"
    if "board" in node and node["board"]["board_id"] not in boards.values():
        yield f"{name}: no board {node['board']}"


def _find_value_problems(name: str, node: Mapping[str, Any]) -> Iterator[str]:
    if node["type"] == "noise" and (node["width"] % 8 or node["height"] % 8):
        yield "noise: sizes are multiples of 8"
    if node["type"] == "denoise_latents":
        if node["scheduler"] not in SCHEDULERS or node["steps"] < 1 or node["cfg_scale"] < 1:
            yield "denoise: bad scheduler, steps or cfg_scale"
        if not 0 <= node["denoising_start"] <= node["denoising_end"] <= 1:
            yield "denoise: bad start or end"
    if node["type"] == "controlnet" and not (
        -1 <= node["control_weight"] <= 2
        and node["begin_step_percent"] < node["end_step_percent"] <= 1
    ):
        yield f"{name}: bad weight or range"
