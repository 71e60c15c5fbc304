"""`python -m bench [NAME...]`: measure these, or everything that takes no more than a few minutes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping

from bench import (
    added,
    artifacts,
    batching,
    cancel,
    encoding,
    fan_out,
    first_event,
    leaving,
    pipeline,
    report,
    soak,
    start,
    throughput,
)
from bench.figures import Figure

MEASUREMENTS: Mapping[str, Callable[[], Awaitable[list[Figure]]]] = {
    "added": added.measure,
    "throughput": throughput.measure,
    "first_event": first_event.measure,
    "fan_out": fan_out.measure,
    "artifacts": artifacts.measure,
    "cancel": cancel.measure,
    "encoding": encoding.measure,
    "start": start.measure,
    "pipeline": pipeline.measure,
    "batching": batching.measure,
    "leaving": leaving.measure,
    "soak": soak.measure,
}
_LONG = ("soak",)
"""Measured only when named."""


async def run(names: list[str]) -> None:
    """Measure one after the other; print and write each."""
    for name in names:
        figures = await MEASUREMENTS[name]()
        print(report.table(name, figures), flush=True)
        report.write(name, figures)


def main() -> None:
    """Read the command line."""
    names = sys.argv[1:] or [name for name in MEASUREMENTS if name not in _LONG]
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        sys.exit(f"no measurement {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    asyncio.run(run(names))


if __name__ == "__main__":
    main()
