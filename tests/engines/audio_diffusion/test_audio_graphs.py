"""Denoisers and decoder of the audio models, exported, and run by ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from atelier_engines.audio_diffusion.oobleck import describe_decoder
from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.stable_audio import denoiser_graph as stable_audio_graph
from atelier_engines.tangoflux import denoiser_graph as tangoflux_graph
from atelier_engines.tangoflux.published_files import NetworkConfig
from tests.engines.audio_diffusion.tiny_stable_audio import TinyStableAudio
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux

TOLERANCE = 1e-5
SIZES: tuple[Mapping[str, int], ...] = (
    {"rows": 1, "tokens": 5, "latents": 4},
    {"rows": 4, "tokens": 19, "latents": 43},
)
"""None of them is exported at."""


def assert_same(graph: Graph, module: torch.nn.Module, folder: Path) -> None:
    """ONNX Runtime computes what torch computes, at all sizes."""
    path = folder / "model.onnx"
    export(graph, module, path)
    session = OnnxSession(graph, lambda: path)
    drawn = parity.draw_inputs(graph, SIZES)
    wanted = parity.run_torch(graph, module, drawn)
    (found,) = parity.measure(graph, session.run, drawn, wanted)
    assert found.largest_value > 0
    assert found.relative <= TOLERANCE


@pytest.fixture
def network(tangoflux: TinyTangoFlux) -> NetworkConfig:
    """The configuration of the small TangoFlux."""
    return NetworkConfig.model_validate(
        json.loads((tangoflux.folder / "config.json").read_text("utf-8"))
    )


def test_denoiser_of_tangoflux(
    tangoflux: TinyTangoFlux, network: NetworkConfig, tmp_path: Path
) -> None:
    """For texts of any length, which have their own places beside those of latents."""
    width = tangoflux.fc.in_features
    graph = tangoflux_graph.describe_denoiser(network, width, torch.float32)
    assert_same(graph, tangoflux.denoiser, tmp_path)


def test_denoiser_of_stable_audio(stable_audio: TinyStableAudio, tmp_path: Path) -> None:
    """With the places of latents as constants in it."""
    module = stable_audio.pipeline.transformer
    graph = stable_audio_graph.describe_denoiser(module.config, torch.float32)
    assert_same(graph, module, tmp_path)


def test_decoder(tangoflux: TinyTangoFlux, tmp_path: Path) -> None:
    """For pieces of any length; both models have the same one."""
    module = tangoflux.autoencoder
    assert_same(describe_decoder(int(module.config.decoder_input_channels)), module, tmp_path)
