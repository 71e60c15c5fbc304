"""What a client gains by large frames, and by raised thresholds of its allocator: all four clients in one run.

The clients take turns at the same server, each in a process of its own, as the thresholds are read when it starts.
Source of their names: mallopt(3).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from bench.calls import OUTPUT_BYTES
from bench.client_process import CALLERS, CALLS, TRANSFERRED
from bench.figures import Figure, median
from bench.processes import ServiceProcess, start_sketch, stop_at_exit

_ROUNDS = 9
_THRESHOLDS = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
_CLIENTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "plain": ("plain", {}),
    "large frames": ("large", {}),
    "thresholds": ("plain", _THRESHOLDS),
    "both": ("large", _THRESHOLDS),
}
_WORK = {
    "generate": (f"1 MiB, {CALLERS} callers", CALLS),
    "transfer": ("64 MiB up and down", 2 * TRANSFERRED // 2**20),
}
"""By kind of work: its name, and how many MiB it moves."""


@dataclass(frozen=True, slots=True)
class _Cost:
    seconds: float
    cpu: float


async def measure() -> list[Figure]:
    """Throughput and the client's own CPU time."""
    costs: dict[tuple[str, str], list[_Cost]] = {
        (work, name): [] for work in _WORK for name in _CLIENTS
    }
    async with start_sketch(output_bytes=OUTPUT_BYTES) as running, AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(_start(running, frames, environment))
            for name, (frames, environment) in _CLIENTS.items()
        }
        for _ in range(_ROUNDS + 1):
            for work, name in random.sample(list(costs), len(costs)):
                costs[work, name].append(await _do(clients[name], work))
    return [
        figure
        for (work, name), found in costs.items()
        for figure in _make_figures(work, name, found[1:])
    ]


@asynccontextmanager
async def _start(
    running: ServiceProcess, frames: str, environment: Mapping[str, str]
) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        "env",
        *(f"{name}={value}" for name, value in environment.items()),
        sys.executable,
        "-m",
        "bench.client_process",
        running.address,
        frames,
        stdin=PIPE,
        stdout=PIPE,
    )
    async with stop_at_exit(process):
        yield process


async def _do(client: Process, work: str) -> _Cost:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{work}\n".encode())
    done = json.loads(await client.stdout.readline())
    return _Cost(done["seconds"], done["cpu"])


def _make_figures(work: str, name: str, costs: list[_Cost]) -> list[Figure]:
    title, moved = _WORK[work]
    rate = median([moved / cost.seconds for cost in costs])
    cpu = median([cost.cpu / moved * 1e3 for cost in costs])
    return [
        Figure(name=f"{title}, {name}", value=rate, unit="MiB/s"),
        Figure(name=f"{title}, {name}: CPU time of the client for 1 MiB", value=cpu, unit="ms"),
    ]
