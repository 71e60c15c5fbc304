"""Where the CPU time of a generation goes: the bare server, what durability adds part by part, and the service.

All servers run at the same time and take turns, so that what else the machine does touches all alike. The figures of
the service with outputs of 8 KiB say what it costs apart from bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.calls import OUTPUT_BYTES, measure_rate, open_stub
from bench.durable_server import PARTS
from bench.figures import Figure, median
from bench.processes import ServiceProcess, start_baseline, start_durable, start_sketch

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from bench.calls import Stub

_ROUNDS = 7
_CALLERS, _CALLS = 8, 120
_WARM_UP = 400  # until files are recycled
_SMALL_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    name: str
    output_bytes: int
    process: ServiceProcess
    stub: Stub
    cpu_ms: list[float] = field(default_factory=list)
    """CPU time of one call, in each round."""
    rates: list[float] = field(default_factory=list)
    """Calls a second, in each round."""

    async def measure_round(self) -> None:
        used = self.process.cpu_seconds()
        self.rates.append(await self.call(_CALLS))
        self.cpu_ms.append((self.process.cpu_seconds() - used) / _CALLS * 1e3)

    async def call(self, calls: int) -> float:
        return await measure_rate(
            self.stub, callers=_CALLERS, calls=calls, output_bytes=self.output_bytes
        )


async def measure() -> list[Figure]:
    """CPU time of a call and calls a second of each server, eight callers."""
    async with _start_all() as servers:
        for server in servers:
            await server.call(_WARM_UP)
        for _ in range(_ROUNDS):
            for server in servers:
                await server.measure_round()
    figures = []
    for server in servers:
        figures += [
            Figure(name=f"{server.name}: CPU time", value=median(server.cpu_ms), unit="ms"),
            Figure(name=f"{server.name}: calls", value=median(server.rates), unit="/s"),
        ]
    return figures


@asynccontextmanager
async def _start_all() -> AsyncGenerator[list[_Server]]:
    starts: dict[str, AbstractAsyncContextManager[ServiceProcess]] = {
        "bare, 8 KiB": start_baseline(_SMALL_BYTES),
        "service, 8 KiB": start_sketch(output_bytes=_SMALL_BYTES),
        "bare": start_baseline(OUTPUT_BYTES),
        **{
            f"bare + {' + '.join(PARTS[:count])}": start_durable(OUTPUT_BYTES, *PARTS[:count])
            for count in range(1, len(PARTS) + 1)
        },
        "service": start_sketch(output_bytes=OUTPUT_BYTES),
    }
    async with AsyncExitStack() as stack:
        servers = []
        for name, start in starts.items():
            process = await stack.enter_async_context(start)
            stub = await stack.enter_async_context(open_stub(process.address))
            size = _SMALL_BYTES if "8 KiB" in name else OUTPUT_BYTES
            servers.append(_Server(name=name, output_bytes=size, process=process, stub=stub))
        yield servers
