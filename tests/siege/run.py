"""The siege: callers, watchers and disturbances at once, then the comparison of what was seen with what is stored."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.siege.callers import Callers
from tests.siege.connections import Connections, connected
from tests.siege.disturbances import Disturber
from tests.siege.plan import Planned, plan
from tests.siege.recorder import Recorder
from tests.siege.report import Report
from tests.siege.server import SiegedServer
from tests.siege.stored import (
    count_orders,
    digest_files,
    list_unfinished,
    read_all,
    read_errors,
)
from tests.siege.violations import Evidence, find_violations
from tests.siege.watchers import Watchers
from tests.small_disk import MountError, mounted
from tests.vendors.fal.stand_in import stand_in

_DISK_BYTES = 2**30
_ORDER_SECONDS = 0.2
"""Between the arrival of an order at the remote service, from which on it counts, and the answer."""
_GENERATIONS_PER_WATCHER = 7  # 2000 generations have 300 watchers
_MOST_WATCHERS = 300
_MOST_AT_ONCE = 40
_BETWEEN_DISTURBANCES = (12, 30)
"""Generations that are asked for between two disturbances: at least, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiegeSettings:
    """How large a siege is, and which."""

    generations: int
    seed: int
    directory: Path
    """Where the server keeps its data and its log."""
    silence_seconds: float = 300.0
    """After so long without an answer or an event, what is still open counts as stuck."""


async def besiege(settings: SiegeSettings) -> Report:
    """Run a siege; the report has every violation."""
    started, cpu = time.monotonic(), _read_cpu_seconds()
    with stand_in() as service, _disk(settings.directory) as disk:
        service.answer_seconds = _ORDER_SECONDS
        server = SiegedServer(directory=settings.directory, service=service)
        recorder = Recorder()
        disturber = Disturber(
            server=server,
            recorder=recorder,
            chance=random.Random(settings.seed),
            disk_bytes=0 if disk else _DISK_BYTES,
        )
        try:
            disturber.start()
            await server.wait_serving()
            stuck = await _attack(settings, disturber)
            evidence = await _collect(server, recorder, stuck=stuck)
        finally:
            await server.kill()
    return Report(
        settings_line=f"{settings.generations} generations, seed {settings.seed}",
        seconds=time.monotonic() - started,
        cpu_seconds=_read_cpu_seconds() - cpu,
        evidence=evidence,
        refusals=recorder.refusals,
        findings=find_violations(evidence),
        stuck=stuck,
        left_out=disk,
    )


def _read_cpu_seconds() -> float:
    """CPU time of this process and of all servers that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def _disk(directory: Path) -> Iterator[str]:
    """A file system of its own for the data; yields why there is none, or nothing."""
    with ExitStack() as stack:
        try:
            stack.enter_context(mounted(directory / "data", _DISK_BYTES))
        except MountError as error:
            yield str(error)
        else:
            yield ""


async def _attack(settings: SiegeSettings, disturber: Disturber) -> list[str]:
    """Ask for every generation, with watchers and disturbances; returns what got stuck."""
    recorder, address = disturber.recorder, disturber.server.address
    async with connected(address) as connections, _watching(settings, connections, recorder):
        callers = Callers(connections=connections, recorder=recorder)
        asking = asyncio.create_task(_ask_all(settings, callers, disturber))
        stuck = await _wait(asking, recorder, settings.silence_seconds)
        if stuck:
            return stuck
        ending = asyncio.create_task(_wait_ended(connections))
        return await _wait(ending, recorder, settings.silence_seconds)


async def _ask_all(settings: SiegeSettings, callers: Callers, disturber: Disturber) -> None:
    """Ask for the generations, some at once, and disturb the server now and then; returns when all are answered."""
    limit = asyncio.Semaphore(_MOST_AT_ONCE)
    chance = random.Random(settings.seed + 1)
    disturbing: asyncio.Task[None] | None = None
    left = chance.randint(*_BETWEEN_DISTURBANCES)

    async def ask(planned: Planned) -> None:
        try:
            await callers.ask(planned)
        finally:
            limit.release()

    async with asyncio.TaskGroup() as group:
        for planned in plan(settings.generations, settings.seed):
            await limit.acquire()
            group.create_task(ask(planned))
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            left -= 1
            if left <= 0:
                if disturbing is not None:
                    await disturbing
                left = chance.randint(*_BETWEEN_DISTURBANCES)
                disturbing = group.create_task(disturber.disturb())


@asynccontextmanager
async def _watching(
    settings: SiegeSettings, connections: Connections, recorder: Recorder
) -> AsyncGenerator[None]:
    """Watchers, as long as the block lasts."""
    watchers = Watchers(connections=connections, recorder=recorder)
    count = min(_MOST_WATCHERS, settings.generations // _GENERATIONS_PER_WATCHER)
    tasks = [
        asyncio.create_task(watchers.watch(settings.seed * 1000 + number))
        for number in range(count)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        failures = await asyncio.gather(*tasks, return_exceptions=True)
        for failure in failures:
            if isinstance(failure, Exception):
                raise failure


async def _wait(task: asyncio.Task[None], recorder: Recorder, silence_seconds: float) -> list[str]:
    """Wait for the task as long as something is heard from the server; then stop it, and say what is stuck."""
    while not task.done():
        await asyncio.wait([task], timeout=1.0)
        silence = time.monotonic() - recorder.newest
        if silence > silence_seconds and not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, BaseExceptionGroup):
                await task
            return [f"for {silence:.0f} s the server said nothing about {recorder.unanswered()}"]
    task.result()
    return []


async def _wait_ended(connections: Connections) -> None:
    while await list_unfinished(connections.stubs[0]):  # noqa: ASYNC110 (it happens in another process)
        await asyncio.sleep(0.2)


async def _collect(server: SiegedServer, recorder: Recorder, *, stuck: list[str]) -> Evidence:
    """Start the server anew, and read all that it has."""
    if not stuck:
        await _restart(server)
    async with connected(server.address, each=1) as connections:
        stored, listed = await read_all(connections.stubs[0], list(recorder.ids))
    return Evidence(
        asked=recorder.asked,
        streams=recorder.streams,
        disturbances=recorder.disturbances,
        stored=stored,
        listed=listed,
        orders=count_orders(server.service),
        files=digest_files(server.data),
        errors=recorder.texts,
        logged=read_errors(server.running.log),
    )


async def _restart(server: SiegedServer) -> None:
    await asyncio.to_thread(server.running.terminate)
    server.launch()
    await server.wait_serving()
