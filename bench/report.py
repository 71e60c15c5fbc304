"""Prints figures as a table, and writes them with what they depend on: versions, machine, date."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.figures import Figure

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "atelier-server",
    "diffusers",
    "grpcio",
    "isal",
    "numpy",
    "pillow",
    "protobuf",
    "protovalidate",
    "torch",
)
_NOTE = (
    "Where a service is measured: loopback, the client in a process of its own. What is compared was "
    "measured in the same run, in short alternating rounds; medians over rounds. Other work on the "
    "machine moves absolute figures more than ratios: see load_average. Unlike the bare server, the "
    "service also writes every output to disk before it answers; where memory is fresh (a virtual machine "
    "that has just grown its page cache), that write alone can cost more than all the rest. Outputs are "
    "kept for five seconds, so that the page cache is used again."
)


def format_table(measurement: str, figures: Sequence[Figure]) -> str:
    """Format the figures in columns."""
    width = max(len(figure.name) for figure in figures)
    lines = [
        f"  {figure.name:<{width}}  {_format_number(figure.value):>8} {figure.unit:<4} {_format_target(figure)}"
        for figure in figures
    ]
    return "\n".join([measurement, *(line.rstrip() for line in lines)])


def write(measurement: str, figures: Sequence[Figure]) -> None:
    """Write bench/results/<measurement>.json."""
    record = {
        "measurement": measurement,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "load_average": round(os.getloadavg()[0], 1),
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "notes": _NOTE,
        "figures": [_to_entry(figure) for figure in figures],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{measurement}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _to_entry(figure: Figure) -> dict[str, str | float | bool | None]:
    entry: dict[str, str | float | bool | None] = {
        "name": figure.name,
        "value": float(_format_number(figure.value)),
        "unit": figure.unit,
    }
    if figure.bound:
        entry["target"] = f"{figure.bound} {figure.target:g}"
        entry["met"] = figure.met
    return entry


def _format_number(value: float) -> str:
    """The value with three significant digits."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _format_target(figure: Figure) -> str:
    if figure.met is None:
        return ""
    return f"{figure.bound} {figure.target:g}: {'met' if figure.met else 'MISSED'}"


def _cpu_name() -> str:
    """The processor's name, where Linux reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
