"""CPU time that traces add to a generation: the same calls with and without, in turns; one trace of ten is recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from atelier_server.ids import new_id
from atelier_server.tracing.exporter import find_exemplar, find_exporter
from bench.calls import OUTPUT_BYTES, measure_rate, open_stub
from bench.figures import Figure, median
from bench.processes import ServiceProcess, start_service

if TYPE_CHECKING:
    from bench.calls import Stub

_ROUNDS = 20  # even: in half of them the other server is first
_CALLS = 160
_CALLERS = 8
_MAX_OFF_PERCENT = 1.0
_MAX_ON_PERCENT = 5.0
_ENGINES = {"sketch": {"type": "sketch", "output_bytes": OUTPUT_BYTES}}
_SAMPLER = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
_LOOKS = (
    5  # of each generation: its call, its acceptance, its attempt, that attempt's stages, its end
)
_REPEATS = 20_000


async def measure() -> list[Figure]:
    """The difference of the CPU time of all rounds; and the time of what is looked up while there are no traces."""
    with _receive_traces() as receiver:
        environment = {**_SAMPLER, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver}
        async with (
            start_service(_ENGINES) as plain,
            start_service(_ENGINES, environment=environment) as traced,
            open_stub(plain.address) as plain_calls,
            open_stub(traced.address) as traced_calls,
        ):
            sides = (
                partial(_measure_cpu_ms, plain, plain_calls),
                partial(_measure_cpu_ms, traced, traced_calls),
            )
            for measure_side in sides:  # warm up
                await measure_side()
            rounds: list[list[float]] = [[], []]
            for number in range(_ROUNDS):
                for index in (0, 1) if number % 2 else (1, 0):
                    rounds[index].append(await sides[index]())
    off, on = rounds
    looked = _LOOKS * _measure_look_ms()
    return [
        Figure(
            name="added CPU time, one of ten is recorded",
            value=(sum(on) / sum(off) - 1) * 100,
            unit="%",
            bound="at most",
            target=_MAX_ON_PERCENT,
        ),
        Figure(
            name="CPU time of looking whether to trace, off",
            value=looked / median(off) * 100,
            unit="%",
            bound="at most",
            target=_MAX_OFF_PERCENT,
        ),
        Figure(name="CPU time, off", value=median(off), unit="ms"),
        Figure(name="CPU time, one of ten is recorded", value=median(on), unit="ms"),
    ]


@contextmanager
def _receive_traces() -> Iterator[str]:
    """Take what exporters send, in this process, and keep none of it; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def _measure_cpu_ms(server: ServiceProcess, stub: Stub) -> float:
    """CPU time of the server for each call, in milliseconds."""
    used = server.cpu_seconds()
    await measure_rate(stub, callers=_CALLERS, calls=_CALLS)
    return (server.cpu_seconds() - used) / _CALLS * 1e3


def _measure_look_ms() -> float:
    """CPU time of one look for somebody who wants traces, in milliseconds."""
    generation_id = new_id()
    began = time.process_time()
    for _ in range(_REPEATS):
        find_exporter()
        find_exemplar({}, generation_id)
    return (time.process_time() - began) / _REPEATS * 1e3
