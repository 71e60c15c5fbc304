"""What calls cost with a short and with a long queue, and how long an expiry of 100,000 generations holds up others.

The files are filled directly, then served: what is accepted, listed and asked for goes over the wire. Release and
expiry, which no call starts, are measured at the store, in this process. Figures are lower quartiles, which other work
on the machine moves less than medians.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2 import (
    RESPONSE_MODE_ON_ACCEPTANCE,
    GenerateRequest,
    GetCapabilitiesRequest,
    ListGenerationsRequest,
)
from atelier.v1.task_pb2 import ImageTask
from atelier_server.ids import new_id
from atelier_server.store.protocol import Event, Submission
from atelier_server.store.sqlite import expiry, operations
from atelier_server.store.sqlite.database import configure
from atelier_server.store.sqlite.migrations import migrate
from atelier_server.store.sqlite.store import SqliteStore
from bench.calls import make_request, open_stub
from bench.figures import Figure, quantile
from bench.processes import start_service

if TYPE_CHECKING:
    from bench.calls import Stub

_LENGTHS = (10, 1_000, 10_000, 100_000)
_EXPIRED = 100_000
_EXPIRED_AT_ONCE = 10_000
_CALLS = 100
_MAX_RESIDENT_MB = 250
_CALLER = "anonymous"
_ENGINES = {
    "sketch": {"type": "sketch", "delay_seconds": 3600, "queue_limit": 10**6},  # the queue stays
}


async def measure() -> list[Figure]:
    """Each figure, at the end also as a ratio to the figure with the shortest queue."""
    costs: dict[int, dict[str, float]] = {}
    resident = 0
    figures: list[Figure] = []
    for length in _LENGTHS:
        costs[length], resident = await _measure_length(length)
    figures.append(
        Figure(
            name=f"resident, {_LENGTHS[-1]:,} queued",
            value=resident / 1e6,
            unit="MB",
            bound="at most",
            target=_MAX_RESIDENT_MB,
        )
    )
    for length, measured in costs.items():
        for name, seconds in measured.items():
            figures.append(
                Figure(name=f"{name}, {length:,} queued", value=seconds * 1e3, unit="ms")
            )
            least = costs[_LENGTHS[0]][name]
            if length == _LENGTHS[-1]:
                figures.append(_ratio(f"{name}, {length:,} queued", seconds / least))
    return [*figures, *await _measure_expiry()]


def _ratio(name: str, value: float) -> Figure:
    return Figure(name=name, value=value, unit="×", bound="at most", target=1.3)


async def _measure_length(length: int) -> tuple[dict[str, float], int]:
    """Seconds of each call with so many queued, and the resident memory of the server after them."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        await asyncio.to_thread(_fill, data / "atelier.db", length)
        released = await _measure_release(data / "atelier.db")
        async with (
            start_service(_ENGINES, data_dir=data) as process,
            open_stub(process.address) as stub,
        ):
            seconds = {
                "start": process.start_seconds,
                "submit": await _time(lambda: _submit(stub)),
                "GetCapabilities": await _time(
                    lambda: stub.GetCapabilities(GetCapabilitiesRequest())
                ),
                "page of 50": await _time(lambda: stub.ListGenerations(ListGenerationsRequest())),
                "page of a state that none has": await _time(
                    lambda: stub.ListGenerations(
                        ListGenerationsRequest(states=[State.STATE_FAILED])
                    )
                ),
                "claim and release": released,
            }
            return seconds, process.resident_bytes()


async def _submit(stub: Stub) -> None:
    request = make_request(inline=False)
    request.response_mode = RESPONSE_MODE_ON_ACCEPTANCE
    await stub.Generate(request)


async def _time(call: Callable[[], Awaitable[object]]) -> float:
    await call()  # warm up
    seconds = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - start)
    return quantile(seconds, 0.25)


async def _measure_release(path: Path) -> float:
    store = await SqliteStore.open(path, retention_seconds=3600, max_attempts=3)

    async def release() -> None:
        await store.release(await store.claim("sketch"))

    try:
        return await _time(release)
    finally:
        await store.close()


async def _measure_expiry() -> list[Figure]:
    """The longest that another call takes while 100,000 generations with their artifacts are deleted."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        path = Path(directory) / "atelier.db"
        await asyncio.to_thread(_fill, path, _EXPIRED, ended=True)
        before = path.stat().st_size
        store = await SqliteStore.open(path, retention_seconds=3600, max_attempts=3)
        start = time.perf_counter()
        expiry = asyncio.create_task(_expire(store))
        waits = []
        while not expiry.done():
            begun = time.perf_counter()
            await store.submit(_make_submission())
            waits.append(time.perf_counter() - begun)
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - start
        await store.close()
        after = path.stat().st_size
    return [
        Figure(
            name=f"longest submit while {_EXPIRED:,} expire",
            value=max(waits) * 1e3,
            unit="ms",
            bound="at most",
            target=50,
        ),
        Figure(
            name="longest transaction of an expiry, CPU time",
            value=await asyncio.to_thread(_time_steps) * 1e3,
            unit="ms",
            bound="at most",
            target=10,
        ),
        Figure(name=f"expiry of {_EXPIRED:,}", value=seconds, unit="s"),
        Figure(name="file before", value=before / 1e6, unit="MB"),
        Figure(name="file after", value=after / 1e6, unit="MB"),
    ]


def _time_steps() -> float:
    """CPU time of the longest transaction while generations expire: what else the machine does changes little of it."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        path, longest = Path(directory) / "atelier.db", 0.0
        _fill(path, _EXPIRED_AT_ONCE, ended=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            configure(db, "NORMAL")
            later = time.time() + 7200
            for step in (
                partial(expiry.delete_generations, now=later),
                partial(expiry.delete_artifacts, now=later),
                expiry.shrink,
            ):
                more = True
                while more:
                    start = time.thread_time()
                    db.execute("BEGIN IMMEDIATE")
                    more = bool(step(db))
                    db.execute("COMMIT")
                    longest = max(longest, time.thread_time() - start)
    return longest


async def _expire(store: SqliteStore) -> None:
    async with aclosing(store.sweep(time.time() + 7200)) as steps:
        async for _ in steps:
            pass


def _fill(path: Path, count: int, *, ended: bool = False) -> None:
    """Write a file with so many generations that wait, or that have ended with an artifact each."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        configure(db, "NORMAL")
        migrate(db)
        db.execute("BEGIN")
        for _ in range(count):
            operations.submit(db, _make_submission())
            if ended:
                _end(db)
        db.execute("COMMIT")


def _end(db: sqlite3.Connection) -> None:
    claimed = operations.claim(db, "sketch", lambda _: False)
    assert claimed is not None
    claim, _ = claimed
    generation = Generation()
    generation.CopyFrom(claim.generation)
    generation.state = State.STATE_SUCCEEDED
    generation.outputs.add().artifact.id = f"{generation.id}-1-0"
    operations.finish(db, claim, generation, [Event()], 3600)


def _make_submission() -> Submission:
    task = ImageTask(prompt="a lighthouse", width=64, height=64)
    generation = Generation(id=new_id(), state=State.STATE_QUEUED, engine="sketch", image=task)
    generation.request_id = generation.id
    generation.create_time.GetCurrentTime()
    return Submission(
        generation=generation,
        request=GenerateRequest(engine="sketch", image=task),
        task=b"",
        caller=_CALLER,
        digest=b"",
        queue_limit=10**6,
        deadline=None,
    )
