"""The servers of the cases, and what happens to some of them while the cases run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from tests.certificates import Authority
from tests.conftest import RunningServer, free_port, launch, wait_until_serving
from tests.cutting_proxy import run_proxy
from tests.damaging_proxy import run_damaging_proxy
from tests.server.test_auth import make_key

ENGINES = {
    "sketch": {"type": "sketch", "concurrency": 4, "breaker": {"failure_threshold": 1000}},
    "large": {"type": "sketch", "output_bytes": 5 * 2**20},
    "paused": {"type": "sketch", "queue_limit": 1},
}


class Restarting:
    """A server that comes back at its addresses with its data."""

    def __init__(self, folder: Path) -> None:
        """Start it with its data under `folder`."""
        folder.mkdir()
        self._folder = folder
        self.http = _free_address()
        self.running = self._launch(_free_address())

    def drain(self) -> None:
        """Stop it, with what it runs, and start it again."""
        self.running.terminate()
        self.running = self._launch(self.running.address)

    def kill(self) -> None:
        """Take it away without a warning, and start it again."""
        self.end()
        self.running = self._launch(self.running.address)

    def end(self) -> None:
        """Take it away for good."""
        self.running.kill()

    def _launch(self, address: str) -> RunningServer:
        return launch(
            self._folder, address=address, http=self.http, engines=ENGINES, drain_seconds=0
        )


@dataclass(frozen=True)
class Servers:
    """Those that run, as the runners are told of them."""

    plain: RunningServer
    plain_http: str
    draining: Restarting
    killed: Restarting
    told: dict[str, dict[str, str]]


@contextmanager
def run_servers(folder: Path) -> Iterator[Servers]:
    """Start them with their data under `folder`."""
    authority = Authority()
    token = make_key(folder / "keys.json")
    reader = make_key(folder / "keys.json", "read")
    auth = {"keys": {"file": str(folder / "keys.json")}}
    with ExitStack() as stack:

        def start(name: str, **settings: Any) -> tuple[RunningServer, str]:  # noqa: ANN401 (any)
            (folder / name).mkdir()
            http = _free_address()
            running = launch(folder / name, wait=False, engines=ENGINES, http=http, **settings)
            stack.callback(running.kill)
            return running, http

        plain, plain_http = start("plain", limits={"max_inline_bytes": 8 * 2**20})
        guarded, guarded_http = start("guarded", auth=auth)
        tls, tls_http = start("tls", tls=authority.issue().write(folder))
        draining = Restarting(folder / "draining")
        stack.callback(draining.end)
        killed = Restarting(folder / "killed")
        stack.callback(killed.end)
        for running in (plain, guarded, tls):
            wait_until_serving(running, ["", *ENGINES])
        secure = _tell(tls.address, tls_http, scheme="https")
        told = {
            "plain": _tell(plain.address, plain_http),
            "guarded": {**_tell(guarded.address, guarded_http), "token": token},
            "reader": {**_tell(guarded.address, guarded_http), "token": reader},
            "tls": {**secure, "ca": authority.pem.decode()},
            "untrusted": {**secure, "ca": Authority("another one").pem.decode()},
            "draining": _tell(draining.running.address, draining.http),
            "killed": _tell(killed.running.address, killed.http),
        }
        yield Servers(plain, plain_http, draining, killed, told)


def _free_address() -> str:
    return f"127.0.0.1:{free_port()}"


def _tell(grpc: str, http: str, *, scheme: str = "http") -> dict[str, str]:
    return {"address": f"{scheme}://{grpc}", "http": f"{scheme}://{http}"}


@asynccontextmanager
async def run_events(servers: Servers) -> AsyncGenerator[dict[str, dict[str, str]]]:
    """The servers as runners are told of them, `cut` and `damaging` included.

    The connections of `cut` are cut once while a generation with the prompt `cut` runs. The servers that drain and that
    are killed end once while one with the prompt `drain` or `kill` runs. `damaging` changes a byte of `DAMAGED` on its
    way to the caller. One generation waits for the paused engine, and one has the request id `taken`.
    """
    async with AsyncExitStack() as stack:
        plain = await _connect(stack, servers.plain.address)
        await plain.PauseEngine(pb.PauseEngineRequest(engine="paused"))
        waiting = pb.GenerateRequest(engine="paused", image=ImageTask(prompt="x"))
        waiting.response_mode = pb.RESPONSE_MODE_ON_ACCEPTANCE
        await plain.Generate(waiting)
        taken = pb.GenerateRequest(engine="sketch", image=ImageTask(prompt="x"))
        taken.request_id = "taken"
        await plain.Generate(taken)
        proxy = await stack.enter_async_context(run_proxy(servers.plain.address))
        http_proxy = await stack.enter_async_context(run_proxy(servers.plain_http))
        damaging = await stack.enter_async_context(run_damaging_proxy(servers.plain.address))
        http_damaging = await stack.enter_async_context(run_damaging_proxy(servers.plain_http))
        restarts: list[asyncio.Task[None]] = []

        async def cut() -> None:
            await _wait_until_running(plain, "cut")
            proxy.cut()
            http_proxy.cut()

        async def restart(server: Restarting, prompt: str, end: Callable[[], None]) -> None:
            stub = await _connect(stack, server.running.address)
            await _wait_until_running(stub, prompt)
            restarts.append(asyncio.create_task(asyncio.to_thread(end)))

        happening = [
            asyncio.create_task(cut()),
            asyncio.create_task(restart(servers.draining, "drain", servers.draining.drain)),
            asyncio.create_task(restart(servers.killed, "kill", servers.killed.kill)),
        ]
        yield {
            **servers.told,
            "cut": _tell(proxy.address, http_proxy.address),
            "damaging": _tell(damaging, http_damaging),
        }
        for task in happening:
            if not task.done():
                task.cancel()
        await asyncio.gather(*happening, return_exceptions=True)
        await asyncio.gather(*restarts)  # or a server would be left, where a runner fails early
        await plain.ClearQueue(pb.ClearQueueRequest(engine="paused"))


async def _connect(stack: AsyncExitStack, address: str) -> Any:  # noqa: ANN401 (a stub)
    return GenerationServiceStub(await stack.enter_async_context(aio.insecure_channel(address)))


async def _wait_until_running(stub: Any, prompt: str) -> None:  # noqa: ANN401 (a stub)
    while True:
        listed = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=10))
        if any(
            one.state == State.STATE_RUNNING and one.image.prompt == prompt
            for one in listed.generations
        ):
            return
        await asyncio.sleep(0.02)
