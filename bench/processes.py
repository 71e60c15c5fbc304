"""Starts what is measured: the real server, and the bare one that it is compared with."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.calls import connect

_SERVING = health_pb2.HealthCheckResponse.SERVING
_POLL_SECONDS = 0.005
_START_SECONDS = 60.0
_KEPT_SECONDS = 5.0
_BYTECODE_KEPT = (
    "env",
    "-u",
    "PYTHONDONTWRITEBYTECODE",
)  # as on any machine that has started it once


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server process."""

    address: str
    """Where it listens."""
    pid: int
    """Its process."""
    start_seconds: float
    """From the start of the process to the first answer that it serves its engine."""

    def resident_bytes(self) -> int:
        """Memory that it holds now; Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


@asynccontextmanager
async def service(**sketch: object) -> AsyncGenerator[Running]:
    """`atelier serve` with one engine `sketch`, which has these settings."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        address = f"127.0.0.1:{await _free_port()}"
        config = Path(directory) / "atelier.yaml"
        settings = {
            "engines": {"sketch": {"type": "sketch", **sketch}},
            "listen": address,
            "metrics": "127.0.0.1:0",
            "data_dir": str(Path(directory) / "data"),
            "drain_seconds": 0,
            # A disk that neither fills nor empties, as in a server that has run for a day.
            "store": {"retention_seconds": _KEPT_SECONDS},
        }
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        atelier = Path(sys.executable).with_name("atelier")
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *_BYTECODE_KEPT, atelier, "serve", "--config", config, stderr=DEVNULL
        )
        async with _stopping(process):
            await _serving(process, address)
            seconds = time.perf_counter() - start
            yield Running(address=address, pid=process.pid, start_seconds=seconds)


@asynccontextmanager
async def floor(output_bytes: int) -> AsyncGenerator[str]:
    """The bare server of `bench.floor`; yields its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.floor", str(output_bytes), stdout=PIPE
    )
    assert process.stdout is not None
    async with _stopping(process):
        yield f"127.0.0.1:{int(await process.stdout.readline())}"


@asynccontextmanager
async def _stopping(process: Process) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _serving(process: Process, address: str) -> None:
    async with asyncio.timeout(_START_SECONDS), connect(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="sketch")
        while process.returncode is None:
            with contextlib.suppress(aio.AioRpcError):
                answer = await stub.Check(request, timeout=1)  # type: ignore[attr-defined]
                if answer.status == _SERVING:
                    return
            await asyncio.sleep(_POLL_SECONDS)
    raise RuntimeError(f"the server ended with status {process.returncode} before it served")


async def _free_port() -> int:
    probe = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = int(probe.sockets[0].getsockname()[1])
    probe.close()
    await probe.wait_closed()
    return port
