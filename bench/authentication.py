"""CPU time that an API key and a quota add to a generation: the same calls with and without, in turns, without TLS."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_server.auth.key_file import add_key
from atelier_server.auth.keys import make_key
from bench.calls import OUTPUT_BYTES, Metadata, measure_rate, open_stub
from bench.figures import Figure, median
from bench.processes import ServiceProcess, start_service

if TYPE_CHECKING:
    from bench.calls import Stub

_ROUNDS = 16  # even: in half of them the other server is first
_CALLS = 160
_CALLERS = 8
_MAX_ADDED_PERCENT = 3.0
_ENGINES = {"sketch": {"type": "sketch", "output_bytes": OUTPUT_BYTES}}
_UNREACHED = {"requests_per_second": 10**6, "max_unfinished": 10**6}
_TENANT = "bench"


async def measure() -> list[Figure]:
    """The difference of the CPU time of all rounds, as a part of that without key and quota."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        keys = Path(directory) / "keys.json"
        token = _add_key(keys)
        secured: Mapping[str, object] = {
            "auth": {"keys": {"file": str(keys)}},
            "tenants": {_TENANT: _UNREACHED},
        }
        async with (
            start_service(_ENGINES) as opened,
            start_service(_ENGINES, more=secured) as locked,
            open_stub(opened.address) as open_calls,
            open_stub(locked.address) as locked_calls,
        ):
            bearer = (("authorization", f"Bearer {token}"),)
            sides = (
                partial(_measure_cpu_ms, opened, open_calls, ()),
                partial(_measure_cpu_ms, locked, locked_calls, bearer),
            )
            for measure_side in sides:  # warm up
                await measure_side()
            rounds: list[list[float]] = [[], []]
            for number in range(_ROUNDS):
                for index in (0, 1) if number % 2 else (1, 0):
                    rounds[index].append(await sides[index]())
    without, with_key = rounds
    added = (sum(with_key) / sum(without) - 1) * 100
    return [
        Figure(
            name="added CPU time", value=added, unit="%", bound="at most", target=_MAX_ADDED_PERCENT
        ),
        Figure(name="CPU time, everybody may call", value=median(without), unit="ms"),
        Figure(name="CPU time, key and quota", value=median(with_key), unit="ms"),
    ]


def _add_key(path: Path) -> str:
    record, text = make_key(
        tenant=_TENANT, subject="", scopes=["generate"], created=datetime.now(UTC)
    )
    add_key(path, record)
    return text


async def _measure_cpu_ms(server: ServiceProcess, stub: Stub, metadata: Metadata) -> float:
    """CPU time of the server for each call, in milliseconds."""
    used = server.cpu_seconds()
    await measure_rate(stub, callers=_CALLERS, calls=_CALLS, metadata=metadata)
    return (server.cpu_seconds() - used) / _CALLS * 1e3
