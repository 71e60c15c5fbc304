"""What calls cost with a short and with a long queue, and the memory that a long one takes.

The files are filled directly, then served: what is accepted, listed and asked for goes over the wire. Release, which no
call starts, is measured at the store, in this process. Figures are lower quartiles, which other work on the machine
moves less than medians.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2 import (
    RESPONSE_MODE_ON_ACCEPTANCE,
    GetCapabilitiesRequest,
    ListGenerationsRequest,
)
from atelier_server.store.sqlite.store import SqliteStore
from bench.calls import make_request, open_stub
from bench.figures import Figure, quantile
from bench.filled_database import fill
from bench.processes import start_service

if TYPE_CHECKING:
    from bench.calls import Stub

_LENGTHS = (10, 1_000, 10_000, 100_000)
_CALLS = 100
_MAX_RESIDENT_MB = 250
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
    return figures


def _ratio(name: str, value: float) -> Figure:
    return Figure(name=name, value=value, unit="×", bound="at most", target=1.3)


async def _measure_length(length: int) -> tuple[dict[str, float], int]:
    """Seconds of each call with so many queued, and the resident memory of the server after them."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        await asyncio.to_thread(fill, data / "atelier.db", length)
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
