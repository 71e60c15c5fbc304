"""This build against another checkout of the project: `python -m bench --against DIRECTORY`.

Both servers run at the same time, each from its own checkout and environment (`DIRECTORY/.venv`), and take turns: in
every round each build makes the same calls, and the order changes from round to round. Figures are medians over
rounds of this build's figure divided by the other's, so that what else the machine does touches both alike. CPU time
is that of the server processes, and is the steadiest figure on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.v1.generation_service_pb2 import GenerateRequest, StreamProgressRequest
from atelier.v1.task_pb2 import ImageTask
from bench.calls import OUTPUT_BYTES, make_request, measure_rate, open_stub
from bench.figures import Figure, median
from bench.processes import ServiceProcess, start_service

if TYPE_CHECKING:
    from bench.calls import Stub

_ROUNDS = 15
_STARTS = 5
_STEPS = 100
_SKETCH = {"sketch": {"type": "sketch", "output_bytes": OUTPUT_BYTES}}
_TINY = {"tiny": {"type": "diffusion"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    process: ServiceProcess
    stub: Stub


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    wall: float
    cpu: float


Work = Callable[["Stub"], Awaitable[object]]


async def measure(other: Path) -> list[Figure]:
    """Ratios of this build to the other; below 1 is faster for times, and fewer for resources."""
    figures: list[Figure] = []
    for callers, calls in ((1, 40), (8, 80), (32, 160)):
        work = partial(measure_rate, callers=callers, calls=calls)
        name = f"{calls} Generate of 1 MiB, {callers} caller{'s' if callers > 1 else ''}"
        figures += await _compare(name, other, _SKETCH, work)
    figures += await _compare(f"StreamProgress of {_STEPS} steps", other, _SKETCH, _follow)
    figures += await _compare("one image of 128 px, 8 steps, diffusion", other, _TINY, _denoise)
    return [*figures, *await _compare_starts(other)]


async def _compare(
    name: str, other: Path, engines: Mapping[str, Mapping[str, object]], work: Work
) -> list[Figure]:
    async with AsyncExitStack() as stack:
        builds = [
            await _open(stack, checkout=checkout, engines=engines) for checkout in (None, other)
        ]
        for build in builds:
            await work(build.stub)  # warm up
        rounds = [await _measure_round(builds, work, index) for index in range(_ROUNDS)]
        resident = [build.process.resident_bytes() for build in builds]
    return [
        _ratio(f"{name}: time", [(ours.wall, theirs.wall) for ours, theirs in rounds]),
        _ratio(f"{name}: CPU time", [(ours.cpu, theirs.cpu) for ours, theirs in rounds]),
        _ratio(f"{name}: resident memory after", [(resident[0], resident[1])]),
    ]


async def _open(
    stack: AsyncExitStack, *, checkout: Path | None, engines: Mapping[str, Mapping[str, object]]
) -> _Build:
    process = await stack.enter_async_context(start_service(engines, checkout=checkout))
    stub = await stack.enter_async_context(open_stub(process.address))
    return _Build(process=process, stub=stub)


async def _measure_round(builds: Sequence[_Build], work: Work, index: int) -> tuple[_Cost, _Cost]:
    """What the work costs on this build and on the other; which one is first alternates."""
    costs: dict[int, _Cost] = {}
    for place in (0, 1) if index % 2 else (1, 0):
        build = builds[place]
        start, used = time.perf_counter(), build.process.cpu_seconds()
        await work(build.stub)
        costs[place] = _Cost(
            wall=time.perf_counter() - start, cpu=build.process.cpu_seconds() - used
        )
    return costs[0], costs[1]


async def _compare_starts(other: Path) -> list[Figure]:
    """From the start of the process to SERVING, without a model."""
    seconds: list[tuple[float, float]] = []
    idle: list[tuple[float, float]] = []
    for _ in range(_STARTS):
        async with start_service(_SKETCH) as ours:
            first = (ours.start_seconds, ours.resident_bytes())
        async with start_service(_SKETCH, checkout=other) as theirs:
            seconds.append((first[0], theirs.start_seconds))
            idle.append((first[1], theirs.resident_bytes()))
    return [_ratio("start to SERVING", seconds), _ratio("resident memory, idle", idle)]


async def _follow(stub: Stub) -> None:
    request = make_request(steps=_STEPS, inline=False)
    async for _ in stub.StreamProgress(StreamProgressRequest(generate=request)):
        pass


async def _denoise(stub: Stub) -> None:
    task = ImageTask(prompt="a lighthouse", width=128, height=128, steps=8, seed=7)
    await stub.Generate(GenerateRequest(engine="tiny", image=task, inline_outputs=True))


def _ratio(name: str, pairs: Sequence[tuple[float, float]]) -> Figure:
    value = median([ours / theirs for ours, theirs in pairs if theirs > 0])
    return Figure(name=name, value=value, unit="×")
