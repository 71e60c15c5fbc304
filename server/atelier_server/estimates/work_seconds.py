"""How many seconds an engine takes for what it has to do, by the cost units of that. Pure: no clock, no I/O.

Unlike service_times.py this needs no task, only what a database can add up: it serves the choice of how many servers
there are to be, and no promise to a caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from atelier.v1.generation_pb2 import Generation
from atelier_server.estimates.service_times import measure_service_time
from atelier_server.store.work_protocol import EngineWork

UNKNOWN_SECONDS = 30.0
"""Of a generation on an engine that nothing has succeeded on yet."""


def measure_rates(ended: Iterable[tuple[Generation, float]]) -> dict[str, float]:
    """Seconds for each cost unit, by engine, of generations that have succeeded and their cost units."""
    seconds: dict[str, float] = {}
    units: dict[str, float] = {}
    for generation, cost in ended:
        took = measure_service_time(generation.receipt)
        if took is not None and cost > 0:
            engine = generation.engine
            seconds[engine] = seconds.get(engine, 0.0) + took
            units[engine] = units.get(engine, 0.0) + cost
    return {engine: seconds[engine] / units[engine] for engine in seconds}


def estimate_seconds(
    work: Mapping[str, EngineWork], rates: Mapping[str, float]
) -> dict[str, float]:
    """Seconds that one slot of each engine takes for its work; what runs counts in full."""
    return {
        engine: each.cost * rates[engine]
        if engine in rates
        else (each.waiting + each.running) * UNKNOWN_SECONDS
        for engine, each in work.items()
    }
