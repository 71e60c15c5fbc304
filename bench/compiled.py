"""The small model on ONNX Runtime compared with torch: images, each component, and memory of the service.

Both take turns in one process, on one thread each. CPU time is what counts: a busy machine changes it little.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.task_pb2 import ImageTask
from atelier_engines.diffusion import DiffusionEngine
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from bench.calls import open_stub
from bench.engines import Duration, generate, make_task, start_engine, time_work
from bench.figures import Figure, median
from bench.processes import start_service

_SIDES: Mapping[int, float] = {128: 1.5, 256: 1.3}
"""Sides of images in pixels, and how many times as fast ONNX Runtime is to be."""
_COMPONENT_TARGET = 1.2
_ROUNDS = 7
_COMPONENT_ROUNDS = 9
_PICTURES = 20

Call = Callable[[], object]


async def measure() -> list[Figure]:
    """Ratios of torch's time to ONNX Runtime's, and what a service holds after some images."""
    figures: list[Figure] = []
    async with (
        start_engine(runtime="torch", max_batch=1) as eager,
        start_engine(runtime="onnx", max_batch=1) as compiled,
    ):
        for side, target in _SIDES.items():
            rounds = [await _measure_images(eager, compiled, side, i) for i in range(_ROUNDS)]
            figures += _ratios(f"an image of {side} px", rounds[1:], target)
            figures += await asyncio.to_thread(_measure_components, eager, compiled, side)
    held = {name: await _measure_memory(name) for name in ("torch", "onnx")}
    return [
        *figures,
        *(
            Figure(name=f"service after {_PICTURES} images, {name}", value=value / 1e6, unit="MB")
            for name, value in held.items()
        ),
        Figure(
            name="memory of the service, onnx / torch",
            value=held["onnx"] / held["torch"],
            unit="×",
            bound="at most",
            target=1.0,
        ),
    ]


async def _measure_images(
    eager: DiffusionEngine, compiled: DiffusionEngine, side: int, index: int
) -> tuple[Duration, Duration]:
    """How long torch and ONNX Runtime take for the same image, of a prompt that is new to both."""
    task = make_task(f"a blue boat, number {index} of {side}", side, index)
    engines = (eager, compiled)
    found: dict[int, Duration] = {}
    for place in (0, 1) if index % 2 else (1, 0):
        found[place] = await time_work(partial(generate, engines[place], task))
    return found[0], found[1]


def _measure_components(
    eager: DiffusionEngine, compiled: DiffusionEngine, side: int
) -> list[Figure]:
    torch.set_num_threads(1)  # as in the engine; OpenMP counts them for each thread anew
    with torch.inference_mode():
        calls = [_list_calls(one.inspect().family.runtime, side) for one in (eager, compiled)]
        figures: list[Figure] = []
        for name in calls[0]:
            ways = (calls[0][name], calls[1][name])
            rounds = [_time_both(ways, index) for index in range(_COMPONENT_ROUNDS)]
            figures += _ratios(f"{name} at {side} px", rounds[2:], _COMPONENT_TARGET)
        return figures


def _list_calls(runtime: Runtime, side: int) -> Mapping[str, Call]:
    """Every component with inputs as for one image with guidance."""
    draw = torch.Generator().manual_seed(1)
    cells = side // 8
    latents = torch.randn(2, 4, cells, cells, generator=draw)
    timesteps = torch.tensor([500.0, 500.0])
    ids = torch.randint(0, 400, (2, 77), generator=draw)
    encoded = [encoder.encode(ids, layer=-2) for encoder in runtime.text_encoders]
    conditioning = Conditioning(
        prompt_embeds=torch.cat([one.prompt_embeds for one in encoded], dim=-1),
        pooled_prompt_embeds=encoded[-1].pooled_prompt_embeds,
        time_ids=torch.tensor([[side, side, 0, 0, side, side]] * 2, dtype=torch.float32),
    )
    network = runtime.controlnets["canny"]
    control = partial(
        network.compute_residuals,
        latents,
        timesteps,
        conditioning,
        maps=torch.rand(2, 3, side, side, generator=draw),
        scales=[1.0, 1.0],
    )
    predict = partial(runtime.denoiser.predict, latents, timesteps, conditioning)
    image = torch.rand(1, 3, side, side, generator=draw) * 2 - 1
    texts = {
        f"text encoder {place}": partial(encoder.encode, ids, layer=-2)
        for place, encoder in enumerate(runtime.text_encoders, 1)
    }
    return {
        **texts,
        "denoiser": predict,
        "denoiser with residuals": partial(predict, control()),
        "ControlNet": control,
        "autoencoder, encoding": partial(runtime.autoencoder.encode, image, draw),
        "autoencoder, decoding": partial(runtime.autoencoder.decode, latents[:1]),
    }


def _time_both(ways: tuple[Call, Call], index: int) -> tuple[Duration, Duration]:
    found: dict[int, Duration] = {}
    for place in (0, 1) if index % 2 else (1, 0):
        wall, used = time.perf_counter(), time.thread_time()
        ways[place]()
        found[place] = Duration(wall=time.perf_counter() - wall, cpu=time.thread_time() - used)
    return found[0], found[1]


def _ratios(name: str, rounds: list[tuple[Duration, Duration]], target: float) -> list[Figure]:
    return [
        Figure(
            name=f"{name}: torch / onnx, CPU time",
            value=median([eager.cpu / compiled.cpu for eager, compiled in rounds]),
            unit="×",
            bound="at least",
            target=target,
        ),
        Figure(
            name=f"{name}: torch / onnx, time",
            value=median([eager.wall / compiled.wall for eager, compiled in rounds]),
            unit="×",
        ),
        Figure(
            name=f"{name}: onnx, CPU time",
            value=median([compiled.cpu for _, compiled in rounds]) * 1e3,
            unit="ms",
        ),
    ]


async def _measure_memory(runtime: str) -> int:
    """Bytes that a service with this runtime holds after its images."""
    engines = {"tiny": {"type": "diffusion", "runtime": runtime}}
    async with start_service(engines) as process, open_stub(process.address) as stub:
        for seed in range(_PICTURES):
            task = ImageTask(prompt=f"a red heart {seed}", width=256, height=256, seed=seed)
            await stub.Generate(GenerateRequest(engine="tiny", image=task))
        return process.resident_bytes()
