"""Exports Stable Diffusion XL's networks in full size, with random weights, and checks the files; needs no GPU.

`python scripts/export_full_size.py [NAME...]`: `vae-encoder`, `vae-decoder`, `controlnet` and `unet`, or some of them;
each in a process of its own, whose peak of memory is printed. The files, up to 5.2 GB, are removed.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

from atelier_engines.diffusion import weights
from atelier_engines.diffusion.component_loading import create_empty
from atelier_engines.diffusion.runtimes.graphs.autoencoder import describe_decoder, describe_encoder
from atelier_engines.diffusion.runtimes.graphs.denoiser import (
    describe_controlnet,
    describe_denoiser,
)
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.local.load_lock import LOAD_LOCK

_HALF, _SINGLE = torch.float16, torch.float32
_LARGEST = 0.02
_CONFIGURATIONS = files(weights) / "configurations" / "sdxl"


def main() -> None:
    """Export those that are named, or all."""
    names = sys.argv[1:] or list(_NETWORKS)
    if len(names) == 1:
        _report(names[0])
        return
    for name in names:
        subprocess.run([sys.executable, __file__, name], check=True)  # noqa: S603 (this file)


def _report(name: str) -> None:
    began = time.monotonic()
    with TemporaryDirectory(prefix="atelier-export-") as temporary:
        path = Path(temporary) / "model.onnx"
        graph, module = _NETWORKS[name]()
        export(graph, module, path)
        onnx.checker.check_model(path)
        _require_specified(graph, path)
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{name}: {nodes} nodes, {size / 1e9:.2f} GB; exported and checked in "
        f"{time.monotonic() - began:.0f} s, peak memory {peak / 1e9:.1f} GB",
        flush=True,
    )


def _require_specified(graph: Graph, path: Path) -> None:
    """Return if the file has the inputs and outputs of the specification.

    Raises:
        ValueError: it has others.
    """
    made = onnx.load(path, load_external_data=False).graph
    names = [one.name for one in made.input], [one.name for one in made.output]
    if names != ([one.name for one in graph.inputs], list(graph.outputs)):
        raise ValueError(f"the {graph.name} has inputs and outputs of other names: {names}")


def _make_unet() -> tuple[Graph, torch.nn.Module]:
    config = _read("unet")
    graph = describe_denoiser(config, _HALF, with_residuals=True)
    return graph, _fill(create(UNet2DConditionModel, config), _HALF)


def _make_controlnet() -> tuple[Graph, torch.nn.Module]:
    config = _read("unet")
    with LOAD_LOCK, torch.device("meta"):
        module = ControlNetModel.from_unet(
            UNet2DConditionModel.from_config(config), load_weights_from_unet=False
        )
    return describe_controlnet(config, _HALF), _fill(module, _HALF)


def _make_vae(
    describe: Callable[[Mapping[str, Any], torch.dtype], Graph],
) -> tuple[Graph, torch.nn.Module]:
    """In float32: SDXL's autoencoder overflows in float16."""
    config = _read("vae")
    return describe(config, _SINGLE), _fill(create(AutoencoderKL, config), _SINGLE)


def create(kind: type[torch.nn.Module], config: Mapping[str, Any]) -> torch.nn.Module:
    """See create_empty; complete with the defaults of its class."""
    with LOAD_LOCK:
        return create_empty(kind, config)


def _read(part: str) -> Mapping[str, Any]:
    config: Mapping[str, Any] = json.loads(
        (_CONFIGURATIONS / part / "config.json").read_text("utf-8")
    )
    kind = UNet2DConditionModel if part == "unet" else AutoencoderKL
    with torch.device("meta"):
        complete: Mapping[str, Any] = dict(kind.from_config(config).config)
    return complete


def _fill(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Random numbers for all weights, always the same."""
    made = module.to(dtype).to_empty(device="cpu").requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(0)
    for tensor in made.parameters():
        tensor.uniform_(-_LARGEST, _LARGEST, generator=generator)
    return made.eval()


_NETWORKS: Mapping[str, Callable[[], tuple[Graph, torch.nn.Module]]] = {
    "vae-encoder": lambda: _make_vae(describe_encoder),
    "vae-decoder": lambda: _make_vae(describe_decoder),
    "controlnet": _make_controlnet,
    "unet": _make_unet,
}


if __name__ == "__main__":
    main()
