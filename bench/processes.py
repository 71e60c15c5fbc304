"""Starts what is measured: the server, from this or another checkout, and the bare one that it is compared with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.calls import open_channel

_SERVING = health_pb2.HealthCheckResponse.SERVING
_POLL_SECONDS = 0.005
_MAX_START_SECONDS = 300.0
_RETENTION_SECONDS = 5.0
_KEYS_BEFORE = {"data_dir": "data", "retention_seconds": "time_to_live_seconds"}
"""Keys that are used here, and what older builds, which `--against` may name, called them."""
_WITH_BYTECODE = (
    "env",
    "-u",
    "PYTHONDONTWRITEBYTECODE",
)  # as on any machine that has started it once


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProcess:
    """A server that runs in a process of its own."""

    address: str
    """Address of its gRPC server."""
    pid: int
    """Id of its process."""
    start_seconds: float
    """From the start of the process until its engine is SERVING."""

    def cpu_seconds(self) -> float:
        """CPU time that it has used on all its threads; Linux only.

        Source: proc_pid_stat(5), fields 14 (utime) and 15 (stime).
        """
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Resident memory now; Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


@asynccontextmanager
async def start_sketch(**settings: object) -> AsyncGenerator[ServiceProcess]:
    """`atelier serve` of this checkout, with one engine `sketch` that has these settings."""
    async with start_service({"sketch": {"type": "sketch", **settings}}) as process:
        yield process


@asynccontextmanager
async def start_service(
    engines: Mapping[str, Mapping[str, object]],
    *,
    checkout: Path | None = None,
    data_dir: Path | None = None,
    more: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[ServiceProcess]:
    """`atelier serve` with these engines; of another checkout, it runs in that one's `.venv`.

    The data directory is a new one, unless there is one to serve. `more` are further settings, `environment` further
    variables.
    """
    atelier = Path(sys.executable).with_name("atelier")
    if checkout is not None:
        atelier = checkout / ".venv" / "bin" / "atelier"
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        address = f"127.0.0.1:{await find_free_port()}"
        config = Path(directory) / "atelier.yaml"
        keys = await _find_keys(atelier)
        settings = {
            "engines": engines,
            "listen": address,
            "metrics": "127.0.0.1:0",
            keys["data_dir"]: str(data_dir or Path(directory) / "data"),
            "drain_seconds": 0,
            # A disk that neither fills nor empties, as in a server that has run for a day.
            "store": {keys["retention_seconds"]: _RETENTION_SECONDS},
            **(more or {}),
        }
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        start = time.perf_counter()
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        process = await asyncio.create_subprocess_exec(
            *_WITH_BYTECODE, *variables, atelier, "serve", "--config", config, stderr=DEVNULL
        )
        async with stop_at_exit(process):
            await _wait_serving(process, address, list(engines))
            seconds = time.perf_counter() - start
            yield ServiceProcess(address=address, pid=process.pid, start_seconds=seconds)


async def _find_keys(atelier: Path) -> Mapping[str, str]:
    """How that build calls the keys that are used here: their names today, or those of version 0.1."""
    process = await asyncio.create_subprocess_exec(atelier, "config", "reference", stdout=PIPE)
    reference, _ = await process.communicate()
    return {
        today: today if f"| `{today}` |".encode() in reference else before
        for today, before in _KEYS_BEFORE.items()
    }


@asynccontextmanager
async def start_baseline(output_bytes: int) -> AsyncGenerator[ServiceProcess]:
    """The bare server of `bench.grpc_baseline`."""
    async with _start_module("bench.grpc_baseline", str(output_bytes)) as process:
        yield process


@asynccontextmanager
async def start_durable(output_bytes: int, *parts: str) -> AsyncGenerator[ServiceProcess]:
    """The least durable server, of `bench.durable_server`, which does these parts for each call."""
    async with _start_module("bench.durable_server", str(output_bytes), *parts) as process:
        yield process


@asynccontextmanager
async def _start_module(module: str, *arguments: str) -> AsyncGenerator[ServiceProcess]:
    """A module that prints the port on which it serves."""
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=PIPE
    )
    assert process.stdout is not None
    async with stop_at_exit(process):
        address = f"127.0.0.1:{int(await process.stdout.readline())}"
        seconds = time.perf_counter() - start
        yield ServiceProcess(address=address, pid=process.pid, start_seconds=seconds)


@asynccontextmanager
async def stop_at_exit(process: Process) -> AsyncGenerator[None]:
    """Terminate the process after the context, and wait for its end."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _wait_serving(process: Process, address: str, engines: Sequence[str]) -> None:
    for engine in engines:
        await _wait_engine(process, address, engine)


async def _wait_engine(process: Process, address: str, engine: str) -> None:
    async with asyncio.timeout(_MAX_START_SECONDS), open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=engine)
        while process.returncode is None:
            with contextlib.suppress(aio.AioRpcError):
                answer = await stub.Check(request, timeout=1)  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
                if answer.status == _SERVING:
                    return
            await asyncio.sleep(_POLL_SECONDS)
    raise RuntimeError(f"the server ended with status {process.returncode} before it served")


async def find_free_port() -> int:
    """A port that is free now."""
    probe = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = int(probe.sockets[0].getsockname()[1])
    probe.close()
    await probe.wait_closed()
    return port
