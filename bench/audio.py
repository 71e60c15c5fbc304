"""The audio engines compared with bare loops over the same parts, their networks on two runtimes, and output.

The networks are run by torch and by ONNX Runtime. What is measured of output: finishing, files and speech.

The weights are small and random: what is measured is the work around the networks, and how the networks are run. All
takes turns in one process, on one thread each.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from atelier_engines.audio_diffusion.oobleck import describe_decoder
from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.engine import Engine
from atelier_engines.local import cpu
from atelier_engines.stable_audio import create_engine as create_stable_audio
from atelier_engines.stable_audio import denoiser_graph as stable_audio_graph
from atelier_engines.stable_audio_3 import create_engine as create_stable_audio_3
from atelier_engines.tangoflux import create_engine as create_tangoflux
from atelier_engines.tangoflux import denoiser_graph as tangoflux_graph
from atelier_engines.tangoflux.published_files import NetworkConfig
from atelier_engines.task import AudioTask
from bench.audio_output import measure_output, measure_speech
from bench.engines import Duration, time_work
from bench.figures import Figure, median
from tests.engines.audio_clips import clip, task
from tests.engines.audio_diffusion import tiny_stable_audio, tiny_stable_audio_3, tiny_tangoflux

_STEPS = 20
_ROUNDS = 15
_TARGET = 0.98
_SIZE = {"rows": 2, "tokens": 18, "latents": 43}


class _Model(Protocol):
    def compose(self, task: AudioTask) -> object: ...


async def measure() -> list[Figure]:
    """Throughput against bare loops, and ratios of torch's CPU time to that of ONNX Runtime."""
    cpu.configure_threads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        folder = Path(name)
        tango = tiny_tangoflux.write(folder / "tangoflux")
        stable = tiny_stable_audio.write(folder / "stable_audio")
        third = tiny_stable_audio_3.write(folder / "stable_audio_3")
        return [
            *await _compare_loops("tangoflux", create_tangoflux(tango.config()), tango),
            *await _compare_loops("stable_audio", create_stable_audio(stable.config()), stable),
            *await _compare_loops("stable_audio_3", create_stable_audio_3(third.config()), third),
            *_compare_runtimes(tango, stable, folder),
            *await measure_output(),
            *await measure_speech(),
        ]


async def _compare_loops(name: str, engine: Engine, model: _Model) -> list[Figure]:
    """Clips by the engine and by the same parts without one, in turns."""
    await engine.start()
    try:
        rounds = [await _measure_round(engine, model, index) for index in range(_ROUNDS)]
    finally:
        await engine.stop()
    ratios = [bare.cpu / ours.cpu for bare, ours in rounds[1:]]
    return [
        Figure(
            name=f"{name}, {_STEPS} steps: engine / bare loop, throughput by CPU time",
            value=median(ratios),
            unit="×",
            bound="at least",
            target=_TARGET,
        ),
        Figure(
            name=f"{name}, {_STEPS} steps: engine",
            value=_STEPS / median([ours.wall for _, ours in rounds[1:]]),
            unit="steps/s",
        ),
    ]


async def _measure_round(engine: Engine, model: _Model, index: int) -> tuple[Duration, Duration]:
    wanted = task(seed=index, steps=_STEPS, prompt=f"rain on roof {index}")
    ways: tuple[Callable[[], Awaitable[object]], ...] = (
        partial(asyncio.to_thread, _compose, model, wanted),
        partial(clip, engine, wanted),
    )
    found: dict[int, Duration] = {}
    for place in (0, 1) if index % 2 else (1, 0):
        found[place] = await time_work(ways[place])
    return found[0], found[1]


def _compose(model: _Model, wanted: AudioTask) -> object:
    torch.set_num_threads(1)  # as in the engine; OpenMP counts them for each thread anew
    return model.compose(wanted)


def _compare_runtimes(
    tango: tiny_tangoflux.TinyTangoFlux, stable: tiny_stable_audio.TinyStableAudio, folder: Path
) -> list[Figure]:
    """Each network with inputs as for one clip with guidance."""
    network = NetworkConfig.model_validate(
        json.loads((tango.folder / "config.json").read_text("utf-8"))
    )
    width = int(tango.autoencoder.config.decoder_input_channels)
    other = stable.pipeline.transformer
    described = (
        (
            tangoflux_graph.describe_denoiser(network, tango.fc.in_features, torch.float32),
            tango.denoiser,
        ),
        (stable_audio_graph.describe_denoiser(other.config, torch.float32), other),
        (describe_decoder(width), tango.autoencoder),
    )
    return [_compare_network(graph, module, folder) for graph, module in described]


def _compare_network(graph: Graph, module: torch.nn.Module, folder: Path) -> Figure:
    path = folder / f"{graph.name}.onnx"
    export(graph, module, path)
    session, wrapped = OnnxSession(graph, lambda: path), graph.wrap(module).eval()
    (inputs,) = parity.draw_inputs(graph, [_SIZE])
    ordered = [inputs[one.name] for one in graph.inputs]
    ratios: list[float] = []
    with torch.inference_mode():
        for _ in range(_ROUNDS):
            eager = _time_on_cpu(lambda: wrapped(*ordered))
            ratios.append(eager / _time_on_cpu(lambda: session.run(inputs)))
    return Figure(name=f"{graph.name}: torch / onnx, CPU time", value=median(ratios[1:]), unit="×")


def _time_on_cpu(work: Callable[[], object]) -> float:
    """CPU time of this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
