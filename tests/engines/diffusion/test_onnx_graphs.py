"""Graphs as they are specified and exported, and the sessions that run them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.denoiser import describe_denoiser
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import ROWS, Graph, GraphInput
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.errors import EngineFailedError, EngineUnavailableError

GRAPH = Graph(
    name="doubler",
    inputs=(GraphInput(name="numbers", shape=(ROWS, 2), dtype=torch.float32),),
    outputs=("doubled",),
    wrap=lambda module: module,
)


class Doubler(torch.nn.Module):
    """The smallest network."""

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Twice the numbers."""
        return numbers * 2


def make_doubler(folder: Path) -> Network:
    """The smallest network, with a file of weights in the folder."""
    weights = folder / "weights"
    weights.write_bytes(b"one")
    return Network(
        name="doubler",
        component="denoiser",
        graph=GRAPH,
        dtype=torch.float32,
        weights=(weights,),
        settings={},
        size=0,
        load=Doubler,
    )


def test_session_leaves_memory_and_comes_back(tmp_path: Path) -> None:
    """At any number of rows; a file that ONNX Runtime cannot read is named."""
    path = tmp_path / "model.onnx"
    export(GRAPH, Doubler(), path)
    session = OnnxSession(GRAPH, lambda: path)
    assert session.nbytes == 2 * path.stat().st_size  # ONNX Runtime packs weights anew
    numbers = torch.arange(10, dtype=torch.int64).view(5, 2)
    for in_ram in (True, False):
        session.offload(keep_in_ram=in_ram)
        session.restore(torch.device("cpu"))
        assert torch.equal(session.run({"numbers": numbers})[0], numbers * 2.0)
    session.offload(keep_in_ram=False)
    with pytest.raises(EngineFailedError, match="doubler is not in memory"):
        session.run({"numbers": numbers})
    path.write_bytes(b"damaged")
    with pytest.raises(EngineUnavailableError, match=r"cannot load .*model\.onnx"):
        session.restore(torch.device("cpu"))


def test_residuals_are_counted_from_the_configuration() -> None:
    """Nine and one for Stable Diffusion XL; pooled embeddings and time ids are float32 in every precision."""
    config = {
        "in_channels": 4,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    graph = describe_denoiser(config, torch.float16, with_residuals=True)
    sizes = {"rows": 2, "height": 13, "width": 16}
    residuals = [one.lengths(sizes) for one in graph.inputs if one.name.startswith("residual_")]
    assert len(residuals) == 10
    assert residuals[0] == (2, 320, 13, 16)
    assert residuals[3] == (2, 320, 7, 8)
    assert residuals[-1] == (2, 1280, 4, 4)
    assert graph.input("pooled_prompt_embeds").shape[1] == 1280
    wide = {one.name for one in graph.inputs if one.dtype is torch.float32}
    assert wide == {"timesteps", "pooled_prompt_embeds", "time_ids"}
