"""Generations a second that each store accepts, hands to a worker and ends, with small outputs and none of a service.

PostgreSQL runs on the same machine and waits for its disk at each commit. The stores take turns, since other work on
the machine moves rates; CPU time moves less.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from atelier.v1.generation_pb2 import Generation, State
from atelier_server.store.postgres.store import PostgresStore, RecoveryRules
from atelier_server.store.protocol import Claim, Event, Store
from atelier_server.store.sqlite.store import SqliteStore
from bench.figures import Figure, median
from bench.filled_database import make_submission
from tests.postgres_server import PostgresServer

_ROUNDS = 5
_GENERATIONS = 1_500  # of a round
_CALLERS = 16
_WORKERS = 16
_MIN_RATE = 400.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    rate: float
    """Generations a second."""
    cpu_ms: float
    """CPU time of this process for each."""
    server_ms: float
    """CPU time of the database's server for each."""


async def measure() -> list[Figure]:
    """Rounds alternate between the stores; figures are medians over rounds."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        folder = Path(directory)
        async with serve_postgres() as server:
            rounds: dict[str, list[_Round]] = {"sqlite": [], "postgres": []}
            for number in range(_ROUNDS):
                embedded = await SqliteStore.open(
                    folder / f"{number}.db", retention_seconds=3600, max_attempts=3
                )
                rounds["sqlite"].append(await _measure_round(embedded, lambda: 0.0))
                shared = await open_postgres(server.make_database())
                rounds["postgres"].append(
                    await _measure_round(shared, lambda: _find_cpu_seconds(server))
                )
    return [figure for name, measured in rounds.items() for figure in _make_figures(name, measured)]


@asynccontextmanager
async def serve_postgres() -> AsyncGenerator[PostgresServer]:
    """A server that is as durable as by default."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        await asyncio.to_thread(Path(directory).chmod, 0o755)
        server = PostgresServer(Path(directory) / "server", durable=True)
        try:
            await asyncio.to_thread(server.start)
            yield server
        finally:
            await asyncio.to_thread(server.stop)


async def open_postgres(dsn: str) -> PostgresStore:
    """The store over that database."""
    rules = RecoveryRules(max_attempts=3)
    return await PostgresStore.open(dsn, lease_seconds=60, retention_seconds=3600, rules=rules)


async def _measure_round(store: Store, find_server_seconds: Callable[[], float]) -> _Round:
    start, used = time.perf_counter(), time.process_time()
    server = find_server_seconds()
    try:
        await _drive(store)
    finally:
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
        server = find_server_seconds() - server
        await store.close()
    return _Round(
        rate=_GENERATIONS / seconds,
        cpu_ms=cpu / _GENERATIONS * 1e3,
        server_ms=server / _GENERATIONS * 1e3,
    )


async def _drive(store: Store) -> None:
    """Accept, claim and end so many generations, with callers and workers side by side."""
    submissions = iter([make_submission() for _ in range(_GENERATIONS)])
    left = _GENERATIONS
    ended = asyncio.Event()

    async def call() -> None:
        for submission in submissions:
            await store.submit(submission)

    async def work() -> None:
        nonlocal left
        while True:
            claim = await store.claim("sketch")
            await finish(store, claim)
            left -= 1
            if not left:
                ended.set()

    workers = [asyncio.create_task(work()) for _ in range(_WORKERS)]
    await asyncio.gather(*(call() for _ in range(_CALLERS)))
    await ended.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def finish(store: Store, claim: Claim) -> None:
    """End the claimed generation with an output."""
    generation = Generation()
    generation.CopyFrom(claim.generation)
    generation.state = State.STATE_SUCCEEDED
    generation.outputs.add().artifact.id = f"{generation.id}-1-0"
    await store.finish(claim, generation, Event())


def _find_cpu_seconds(server: PostgresServer) -> float:
    """CPU time of all processes that the server has had.

    Source: proc_pid_stat(5), fields 4 (ppid), 14 to 17 (utime, stime, and those of children that have ended).
    """
    first = (server.directory / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0]
    seconds = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if stat.parent.name == first:
            seconds += sum(map(int, fields[11:15])) / _TICKS
        elif fields[1] == first:
            seconds += sum(map(int, fields[11:13])) / _TICKS
    return seconds


def _make_figures(name: str, rounds: list[_Round]) -> list[Figure]:
    rate = median([each.rate for each in rounds])
    figures = [
        Figure(name=name, value=rate, unit="/s", bound="at least", target=_MIN_RATE)
        if name == "postgres"
        else Figure(name=name, value=rate, unit="/s"),
        Figure(
            name=f"{name}: CPU time, this process",
            value=median([each.cpu_ms for each in rounds]),
            unit="ms",
        ),
    ]
    if name == "postgres":
        server = median([each.server_ms for each in rounds])
        figures.append(Figure(name=f"{name}: CPU time, its server", value=server, unit="ms"))
    return figures
