"""Writes the graphs that come with the small model: `python scripts/write_tiny_graphs.py`.

Run it after a change in `atelier_engines/diffusion/runtimes/graphs/` that changes what is exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier_engines.diffusion.runtimes.graphs import structures
from atelier_engines.diffusion.runtimes.graphs.autoencoder import describe_decoder, describe_encoder
from atelier_engines.diffusion.runtimes.graphs.denoiser import (
    describe_controlnet,
    describe_denoiser,
)
from atelier_engines.diffusion.runtimes.graphs.export import trace
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.graphs.text_encoder import describe_text_encoder
from atelier_tiny import CONTROLNETS, WEIGHTS

_DTYPE = torch.float32
_FOLDER = WEIGHTS.parent / "graphs"


def main() -> None:
    """Trace every network, and write its graph without weights."""
    _FOLDER.mkdir(exist_ok=True)
    for old in _FOLDER.glob("*.onnx"):
        old.unlink()
    for graph, module in _list_networks():
        wrapped = graph.wrap(module).eval()
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "traced.onnx"
            trace(graph, wrapped).save(path)
            model = onnx.load(path)
        structures.strip(model, wrapped)
        path = _FOLDER / f"{structures.name(graph, wrapped)}.onnx"
        onnx.save(model, path)
        print(f"{path.name}: {path.stat().st_size} bytes", flush=True)


def _list_networks() -> Iterator[tuple[Graph, torch.nn.Module]]:
    unet = UNet2DConditionModel.from_pretrained(WEIGHTS / "unet")
    for with_residuals in (False, True):
        yield describe_denoiser(unet.config, _DTYPE, with_residuals=with_residuals), unet
    for path in CONTROLNETS.values():
        yield describe_controlnet(unet.config, _DTYPE), ControlNetModel.from_pretrained(path)
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "vae")
    yield describe_encoder(vae.config, _DTYPE), vae
    yield describe_decoder(vae.config, _DTYPE), vae
    first = CLIPTextModel.from_pretrained(WEIGHTS / "text_encoder")
    yield (
        describe_text_encoder("text_encoder", first.config.to_dict(), _DTYPE, projects=False),
        first,
    )
    second = CLIPTextModelWithProjection.from_pretrained(WEIGHTS / "text_encoder_2")
    yield (
        describe_text_encoder("text_encoder_2", second.config.to_dict(), _DTYPE, projects=True),
        second,
    )


if __name__ == "__main__":
    main()
