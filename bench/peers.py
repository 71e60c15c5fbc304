"""Other model servers beside this one: requests a second, and CPU time of all their processes for each.

Each peer is installed from PyPI into an environment of its own in a temporary folder, and answers with the same 1 MiB
from memory, at once; this service makes a generation of that size, writes it to disk, and answers over gRPC. PyTriton
is called over gRPC with the same library. LitServe and Ray Serve are called over HTTP, by a client that does much less
than one for gRPC; as it shares the machine with the servers, that favours them: the CPU times do not depend on it.
Each takes turns with this service. What cannot be installed here is left out, and said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import sysconfig
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpc import aio

from bench.calls import OUTPUT_BYTES, measure_rate, open_channel, open_stub
from bench.figures import Figure, median
from bench.http_calls import build_post, measure_http_rate
from bench.processes import ServiceProcess, find_free_port, start_sketch, stop_at_exit

if TYPE_CHECKING:
    from bench.calls import Stub

_SERVERS = Path(__file__).parent / "peer_servers"
_LIBRARIES = sysconfig.get_config_var("LIBDIR")  # Triton would load the system's Python otherwise
_MARK = "ATELIER_BENCH_PEER"
_CALLERS = (1, 8, 32)
_CALLS = 96
_ROUNDS = 7
_MAX_START_SECONDS = 120.0
_TRITON_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_TRITON_REQUEST = (  # model_name, inputs (name, datatype, shape), outputs (name), raw_input_contents
    b"\x0a\x05image\x2a\x11\x0a\x04seed\x12\x05INT32\x1a\x02\x01\x01\x32\x07\x0a\x05image\x3a\x04\x07\0\0\0"
)
"""Source: grpc_service.proto of the KServe inference protocol, version 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peer:
    name: str
    package: str
    script: str
    request: bytes
    grpc_method: str = ""
    """Full name of the method to call over gRPC, on the next port; empty for a call over HTTP."""


_PEERS = (
    _Peer(
        name="LitServe",
        package="litserve",
        script="litserve_server.py",
        request=build_post("/predict", b'{"seed": 7}'),
    ),
    _Peer(
        name="Ray Serve",
        package="ray[serve]",
        script="ray_server.py",
        request=build_post("/", b'{"seed": 7}'),
    ),
    _Peer(
        name="PyTriton",
        package="nvidia-pytriton",
        script="pytriton_server.py",
        request=_TRITON_REQUEST,
        grpc_method=_TRITON_METHOD,
    ),
)


@dataclass(frozen=True, slots=True)
class _Round:
    rate: float
    cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunningPeer:
    port: int
    mark: str

    def cpu_seconds(self) -> float:
        """CPU time of all processes that have the peer's mark in their environment."""
        return sum(map(_read_cpu_seconds, _find_marked(self.mark)))


async def measure() -> list[Figure]:
    """Each peer in turn, at 1, 8 and 32 callers."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="atelier-bench-peers-") as directory:
        for peer in _PEERS:
            python = await _install(peer, Path(directory) / peer.script)
            if python is None:
                print(f"{peer.name} cannot be installed here, and is left out", flush=True)
                continue
            figures += await _compare(peer, python)
    return figures


async def _install(peer: _Peer, environment: Path) -> Path | None:
    """The interpreter of a new environment with the peer in it; None if that fails."""
    python = environment / "bin" / "python"
    for command in (
        (sys.executable, "-m", "venv", environment),
        (python, "-m", "pip", "install", "--quiet", peer.package),
    ):
        process = await asyncio.create_subprocess_exec(*command)
        if await process.wait() != 0:
            return None
    return python


async def _compare(peer: _Peer, python: Path) -> list[Figure]:
    figures = []
    async with (
        start_sketch(output_bytes=OUTPUT_BYTES) as running,
        open_stub(running.address) as stub,
        _start(peer, python) as other,
    ):
        for callers in _CALLERS:
            rounds = [
                (
                    await _measure_ours(running, stub, callers),
                    await _measure_peer(peer, other, callers),
                )
                for _ in range(_ROUNDS + 1)
            ][1:]  # the first is for warming up
            figures += _make_figures(peer.name, callers, rounds)
    return figures


@asynccontextmanager
async def _start(peer: _Peer, python: Path) -> AsyncGenerator[_RunningPeer]:
    port, mark = await find_free_port(), secrets.token_hex(8)
    script = _SERVERS / peer.script
    process = await asyncio.create_subprocess_exec(
        *("env", f"{_MARK}={mark}", f"LD_LIBRARY_PATH={_LIBRARIES}"),
        *(python, script, str(port), str(OUTPUT_BYTES)),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        async with stop_at_exit(process):
            await _wait_serving(peer, port)
            yield _RunningPeer(port=port, mark=mark)
    finally:
        _end_marked(mark)


async def _wait_serving(peer: _Peer, port: int) -> None:
    async with asyncio.timeout(_MAX_START_SECONDS):
        while True:
            with contextlib.suppress(OSError, EOFError, RuntimeError, aio.AioRpcError):
                await _measure_rate(peer, port, callers=1, calls=1)
                return
            await asyncio.sleep(0.2)


async def _measure_ours(process: ServiceProcess, stub: Stub, callers: int) -> _Round:
    used = process.cpu_seconds()
    rate = await measure_rate(stub, callers=callers, calls=_CALLS)
    return _Round(rate, (process.cpu_seconds() - used) / _CALLS * 1e3)


async def _measure_peer(peer: _Peer, process: _RunningPeer, callers: int) -> _Round:
    used = process.cpu_seconds()
    rate = await _measure_rate(peer, process.port, callers=callers, calls=_CALLS)
    return _Round(rate, (process.cpu_seconds() - used) / _CALLS * 1e3)


async def _measure_rate(peer: _Peer, port: int, *, callers: int, calls: int) -> float:
    if not peer.grpc_method:
        return await measure_http_rate(port, peer.request, callers=callers, calls=calls)
    async with open_channel(f"127.0.0.1:{port + 1}") as channel:
        method: Any = channel.unary_unary(peer.grpc_method)
        remaining = iter(range(calls))

        async def keep_calling() -> None:
            for _ in remaining:
                assert len(await method(peer.request)) >= OUTPUT_BYTES

        start = time.perf_counter()
        await asyncio.gather(*(keep_calling() for _ in range(callers)))
        return calls / (time.perf_counter() - start)


def _make_figures(name: str, callers: int, rounds: list[tuple[_Round, _Round]]) -> list[Figure]:
    ratio = median([ours.rate / theirs.rate for ours, theirs in rounds])
    of = f"{name}, {callers} caller{'s' if callers > 1 else ''}"
    return [
        Figure(name=f"{of}: requests a second, ratio to it", value=ratio, unit="×"),
        Figure(name=f"{of}: its", value=median([theirs.rate for _, theirs in rounds]), unit="/s"),
        Figure(
            name=f"{of}: its CPU time",
            value=median([theirs.cpu_ms for _, theirs in rounds]),
            unit="ms",
        ),
        Figure(
            name=f"{of}: our CPU time",
            value=median([ours.cpu_ms for ours, _ in rounds]),
            unit="ms",
        ),
    ]


def _find_marked(mark: str) -> list[Path]:
    """The directories in /proc of the processes that inherited the mark; Linux only."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if f"{_MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append(process)
    return found


def _read_cpu_seconds(process: Path) -> float:
    with contextlib.suppress(OSError):
        stat = (process / "stat").read_text(encoding="utf-8")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _end_marked(mark: str) -> None:
    """End what the peer has left running: Ray's own processes outlive it for a while."""
    for process in _find_marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.name), 9)
    time.sleep(0.5)
