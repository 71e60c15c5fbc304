"""Custom workflows for the fake server: two passes, several images in one job, and faults that only a server knows."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

Json = Any
"""What JSON decodes to."""


def _node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _sampler(latent: str, denoise: float) -> dict[str, Any]:
    return _node(
        "KSampler",
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=[latent, 0],
        seed=1,
        steps=4,
        cfg=5.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=denoise,
    )


SIMPLE: dict[str, Any] = {
    "4": _node("CheckpointLoaderSimple", ckpt_name="tiny15.safetensors"),
    "5": _node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "6": _node("CLIPTextEncode", text="", clip=["4", 1]),
    "7": _node("CLIPTextEncode", text="", clip=["4", 1]),
    "16": _sampler("5", 1.0),
    "8": _node("VAEDecode", samples=["16", 0], vae=["4", 2]),
    "9": _node("SaveImage", images=["8", 0], filename_prefix="x"),
}
"""One pass."""
TWO_PASSES: dict[str, Any] = SIMPLE | {
    "10": _node("RandomNoise", noise_seed=1),
    "11": _node("KSamplerSelect", sampler_name="euler"),
    "12": _node("BasicScheduler", model=["4", 0], scheduler="normal", steps=4, denoise=1.0),
    "13": _node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=5.0),
    "14": _node(
        "SamplerCustomAdvanced",
        noise=["10", 0],
        guider=["13", 0],
        sampler=["11", 0],
        sigmas=["12", 0],
        latent_image=["5", 0],
    ),
    "15": _node("LatentUpscaleBy", samples=["14", 0], upscale_method="bilinear", scale_by=2.0),
    "16": _sampler("15", 0.5),
    "17": _node("PreviewImage", images=["8", 0]),
}
"""A custom sampler, then a second pass at twice the size."""


def _places(node: str, name: str) -> list[dict[str, str]]:
    return [{"id": node, "input": name}]


BINDINGS: dict[str, Any] = {
    "slots": {
        "prompt": _places("6", "text"),
        "negative_prompt": _places("7", "text"),
        "width": _places("5", "width"),
        "height": _places("5", "height"),
        "seed": _places("16", "seed"),
        "steps": _places("16", "steps"),
        "model": _places("4", "ckpt_name"),
        "prefix": _places("9", "filename_prefix"),
    },
    "outputs": [{"id": "9"}],
}
BOTH_PASSES: dict[str, Any] = BINDINGS | {
    "slots": BINDINGS["slots"]
    | {
        "seed": [*_places("10", "noise_seed"), *_places("16", "seed")],
        "steps": [*_places("12", "steps"), *_places("16", "steps")],
    }
}


def change(graph: dict[str, Any], node: str, **inputs: object) -> dict[str, Any]:
    """A copy of the graph with other inputs of that node; None removes one."""
    changed = copy.deepcopy(graph)
    changed[node]["inputs"].update(inputs)
    changed[node]["inputs"] = {
        name: value for name, value in changed[node]["inputs"].items() if value is not None
    }
    return changed


def write(folder: Path, graph: Json, bindings: Json, mode: str = "txt2img") -> dict[str, Any]:
    """Write both files; returns the engine's setting `workflows`."""
    files = {"graph": folder / f"{mode}.json", "bindings": folder / f"{mode}.bindings.json"}
    files["graph"].write_text(json.dumps(graph))
    files["bindings"].write_text(json.dumps(bindings))
    return {mode: {name: str(path) for name, path in files.items()}}
