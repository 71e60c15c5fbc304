"""Measures the project: `python -m bench [NAME...]`, or `python -m bench --against DIRECTORY`.

With names: these measurements; without: all that take no more than a few minutes. `--against` compares this build
with another checkout of the project, which has its own `.venv`, and writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from atelier_server.malloc import tune_malloc
from bench import (
    artifacts,
    audio,
    authentication,
    batching,
    cancel,
    cancel_latency,
    client_settings,
    comparison,
    compiled,
    encoding,
    expiry,
    fan_out,
    first_event,
    floor,
    http_port,
    output_files,
    overhead,
    peers,
    pipeline,
    postgres_growth,
    queue_growth,
    report,
    soak,
    start,
    stores,
    throughput,
    tracing,
)
from bench.figures import Figure

MEASUREMENTS: Mapping[str, Callable[[], Awaitable[list[Figure]]]] = {
    "overhead": overhead.measure,
    "throughput": throughput.measure,
    "stores": stores.measure,
    "floor": floor.measure,
    "first_event": first_event.measure,
    "fan_out": fan_out.measure,
    "artifacts": artifacts.measure,
    "authentication": authentication.measure,
    "tracing": tracing.measure,
    "http_port": http_port.measure,
    "output_files": output_files.measure,
    "cancel": cancel.measure,
    "encoding": encoding.measure,
    "start": start.measure,
    "pipeline": pipeline.measure,
    "batching": batching.measure,
    "compiled": compiled.measure,
    "audio": audio.measure,
    "client_settings": client_settings.measure,
    "cancel_latency": cancel_latency.measure,
    "peers": peers.measure,
    "queue_growth": queue_growth.measure,
    "postgres_growth": postgres_growth.measure,
    "expiry": expiry.measure,
    "soak": soak.measure,
}
_LONG = ("peers", "queue_growth", "postgres_growth", "expiry", "soak")
"""Measured only when named."""


async def run(names: list[str]) -> None:
    """Measure one after the other; print and write each."""
    for name in names:
        figures = await MEASUREMENTS[name]()
        print(report.format_table(name, figures), flush=True)
        report.write(name, figures)


async def compare(other: Path) -> None:
    """Measure this build against another checkout, and print the ratios."""
    print(report.format_table(f"this build / {other}", await comparison.measure(other)))


def main() -> None:
    """Read the command line."""
    tune_malloc()  # the client is here: what it measures is not to depend on where its buffers lie
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the project.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--against", type=Path, metavar="DIRECTORY")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in MEASUREMENTS]:
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    if arguments.against is not None:
        asyncio.run(compare(arguments.against))
    else:
        names = arguments.names or [name for name in MEASUREMENTS if name not in _LONG]
        asyncio.run(run(names))


if __name__ == "__main__":
    main()
