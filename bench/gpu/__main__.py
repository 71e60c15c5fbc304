"""`python -m bench.gpu`: measure, and write a table with the card and the versions.

Every way of running is measured for every case, in the order of WAYS, until the time is up; what is left out then is
said in the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from bench.gpu import measure, networks, ways
from bench.gpu.image import Case
from bench.gpu.table import describe_machine, render

_SIDES = (1024, 512)
_BATCHES = (1, 2, 4, 8)
_SMALL_SIDES = (64,)
_SMALL_BATCHES = (1, 2)
_SECONDS = 480
"""Ten minutes of the machine, less what starting and the tests before it take."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small networks, for a dry run")
    parser.add_argument("--way", action="append", default=[], choices=ways.WAYS)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="stop after so long")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="a directory")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    until = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(device, dtype, small=options.small)
    found: list[measure.Measured] = []
    left_out: list[str] = []
    with torch.inference_mode():
        made = networks.create(device, dtype, small=options.small)
        for way in ways.list_ways(options.way):
            if way == "CUDA graphs" and device.type != "cuda":
                left_out.append("CUDA graphs: there is no CUDA device")
                continue
            ways.prepare(made, way)
            for case in list_cases(small=options.small):
                if time.monotonic() > until:
                    left_out.append(f"{way}, {case.name}: no time left")
                    continue
                measured = measure.measure(made, case, way)
                found.append(measured)
                print(f"{way}, {case.name}: {measured.summary}", flush=True)
                write(options.out, machine, found, left_out)
    write(options.out, machine, found, left_out)


def list_cases(*, small: bool) -> Iterator[Case]:
    """The most important ones first: time may run out."""
    sides, batches = (_SMALL_SIDES, _SMALL_BATCHES) if small else (_SIDES, _BATCHES)
    for batch in batches:
        for side in sides:
            for controlled in (False, True):
                yield Case(side=side, batch=batch, controlled=controlled)


def write(
    folder: Path,
    machine: dict[str, str],
    found: list[measure.Measured],
    left_out: list[str],
) -> None:
    """Write what is known so far, as a table and as JSON."""
    (folder / "gpu.md").write_text(render(machine, found, left_out), "utf-8")
    values = {
        "machine": machine,
        "measured": [asdict(one) for one in found],
        "left_out": left_out,
    }
    (folder / "gpu.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")


main()
