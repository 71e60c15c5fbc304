"""A thousand requests of all kinds through one engine; `make soak`, since it takes minutes."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from pathlib import Path

import torch

from bench.figures import Figure
from tests.engines.diffusion import random_requests, soak
from tests.engines.diffusion.soak import Tally

_REQUESTS, _SEED, _CALLERS = 1000, 1, 8


async def measure() -> list[Figure]:
    """Two engines: one for the crowd, one that generates every image alone, to compare."""
    torch.set_num_threads(1)
    logging.getLogger("atelier_engines").setLevel(logging.ERROR)  # runs are to be split here
    warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
    with tempfile.TemporaryDirectory(prefix="atelier-soak-") as folder:
        configuration = soak.configuration(Path(folder))
        async with (
            soak.started(configuration) as engine,
            soak.started(configuration) as judge,
        ):
            start = time.perf_counter()
            requests = random_requests.draw(engine.capabilities, count=_REQUESTS, seed=_SEED)
            tally = await soak.soak(engine, judge, requests, callers=_CALLERS)
            seconds = time.perf_counter() - start
    for line in (*tally.astray, *tally.wrong):
        print(f"  ! {line}")
    return [*_required_figures(tally), *_counted_figures(tally, seconds)]


def _required_figures(tally: Tally) -> list[Figure]:
    """Figures with a target."""
    return [
        _require_none("wrong images", len(tally.wrong)),
        _require_none("requests with another end than they should have", len(tally.astray)),
        _require_none("requests without an end", _REQUESTS - tally.outcomes.total()),
        _require_none("tasks left in the loop", tally.left_over),
        Figure(
            name="memory of the second half against the first",
            value=tally.growth,
            unit="×",
            bound="at most",
            target=1.05,
        ),
    ]


def _require_none(name: str, value: int) -> Figure:
    return Figure(name=name, value=value, unit="", bound="at most", target=0)


def _counted_figures(tally: Tally, seconds: float) -> list[Figure]:
    """Figures without a target."""
    counts = {
        "requests": tally.outcomes.total(),
        **{f"requests, {name}": count for name, count in sorted(tally.outcomes.items())},
        "images compared": tally.pictures,
        "images equal to the bit": tally.equal,
        "largest difference, of 255": tally.largest,
        "runs of the denoiser": tally.runs.total(),
        "images in a run, mean": sum(size * count for size, count in tally.runs.items())
        / max(1, tally.runs.total()),
        "images in a run, most": max(tally.runs, default=0),
        "shared runs without memory, split": tally.pressed,
    }
    resident = tally.resident or [0]
    return [
        *(Figure(name=name, value=value, unit="") for name, value in counts.items()),
        Figure(name="memory after the first tenth", value=_tenth(resident) / 1e6, unit="MB"),
        Figure(name="memory at the end", value=resident[-1] / 1e6, unit="MB"),
        Figure(name="time, with the comparison", value=seconds, unit="s"),
    ]


def _tenth(resident: list[int]) -> int:
    return resident[len(resident) // 10]
