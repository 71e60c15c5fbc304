"""Clients and command line behind a proxy that resets silent streams, and closes connections with GOAWAY."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from atelier_client import AsyncClient, Generation
from atelier_client.enums import AttemptOutcome
from tests.client.conftest import MakeCaller
from tests.conftest import ATELIER, ROOT, RunningServer, StartServer, free_port

GO_PROXY = ROOT / ".tools" / "bin" / "go-proxy"
IDLE_SECONDS = 1.0
SILENT = {"delay_seconds": 4.5}
pytestmark = pytest.mark.skipif(
    not GO_PROXY.exists(),
    reason="there is no proxy: `make go-tools` builds it where Go is installed",
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy process."""

    address: str
    process: asyncio.subprocess.Process
    output: Path

    def count_resets(self) -> int:
        """How many streams it has reset."""
        return self.output.read_text().count("reset")


@asynccontextmanager
async def run_proxy(server: RunningServer, folder: Path) -> AsyncGenerator[Proxy]:
    """The proxy in front of the server."""
    address, output = f"127.0.0.1:{free_port()}", folder / "proxy.log"
    arguments = ("-listen", address, "-target", server.address, "-idle", f"{IDLE_SECONDS}s")
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(GO_PROXY, *arguments, stdout=file)
    try:
        while "listening" not in output.read_text():  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.02)
        yield Proxy(address, process, output)
    finally:
        process.kill()
        await process.wait()


async def require_one_attempt(server: RunningServer) -> Generation:
    """The one generation of the server, which was executed once."""
    async with AsyncClient(server.address) as client:
        (made,) = [generation async for generation in client.list()]
        made = await client.get(made.id)
    assert made.receipt is not None
    assert [attempt.outcome for attempt in made.receipt.attempts] == [AttemptOutcome.SUCCEEDED]
    return made


@pytest.mark.parametrize("method", ["generate", "stream"])
async def test_a_silent_task_survives_resets_and_is_executed_once(
    calling: MakeCaller, start_server: StartServer, tmp_path: Path, method: str
) -> None:
    """The proxy resets every stream again and again before there is anything to send."""
    server = start_server()
    task = {"width": 64, "height": 64, "steps": 1, "options": SILENT}
    async with run_proxy(server, tmp_path) as proxy, calling(proxy.address) as caller:
        if method == "generate":
            made = await caller.call("generate", "a lamp", **task)
        else:
            events = [event async for event in caller.events("stream", "a lamp", **task)]
            made = events[-1].generation
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert proxy.count_resets() >= 2
    assert made.images[0].data
    assert (await require_one_attempt(server)).id == made.id


async def test_a_connection_that_is_closed_with_goaway_is_opened_again(
    calling: MakeCaller, start_server: StartServer, tmp_path: Path
) -> None:
    """While a task runs, and more than once."""
    server = start_server(limits={"max_silence_seconds": IDLE_SECONDS / 5})
    task = {"width": 64, "height": 64, "steps": 1, "options": SILENT}
    async with run_proxy(server, tmp_path) as proxy, calling(proxy.address) as caller:
        generating = asyncio.create_task(caller.call("generate", "a lamp", **task))
        for _ in range(2):
            await asyncio.sleep(1.0)
            proxy.process.send_signal(signal.SIGHUP)
        made = await generating
    assert (await require_one_attempt(server)).id == made.id


async def test_the_command_line_survives_resets(start_server: StartServer, tmp_path: Path) -> None:
    """It ends with its file, after a task that was silent for longer than the proxy allows."""
    server = start_server()
    path = tmp_path / "lamp.png"
    options = (
        "--size",
        "64",
        "--steps",
        "1",
        "--option",
        f"delay_seconds={SILENT['delay_seconds']}",
    )
    async with run_proxy(server, tmp_path) as proxy:
        process = await asyncio.create_subprocess_exec(
            *(ATELIER, "generate", "a lamp", *options, "-o", path, "--server", proxy.address),
            stdout=subprocess.DEVNULL,
        )
        try:
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
        assert proxy.count_resets() >= 2
    assert path.stat().st_size
    await require_one_attempt(server)
