"""Puts an engine through a mixture of requests, and holds every image against its solo run."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines import validation
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.batching import DenoiseRequest, DenoiseScheduler, FixedLimit
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.errors import EngineError
from atelier_engines.event import Event, Output
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.local.step_scheduler import FairBatcher
from atelier_engines.media import Pixels
from atelier_engines.task import ControlType, ImageTask
from tests.engines.diffusion import tiny_sdxl, write_adapters
from tests.engines.diffusion.random_requests import REFUSED_SIDE, Request

TOLERANCE = 1
"""Of 255. A run for several sums in another order than a run for one: images differ in the last
bits of floats, and where such a float lies at the border of two bytes, in the byte.
"""
ROWS = 8
"""Most rows in a run."""

_REFUSED_CELLS = REFUSED_SIDE // 8
_PRESSED = 0.05
"""Share of the runs for several that there is no memory for."""

Pictures = dict[int, NDArray[np.uint8]]
"""By seed."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Requests: `finished`, `left`, or the class of the error that they were to fail with."""
    astray: list[str] = field(default_factory=list)
    """Requests that came to something else than they should."""
    pictures: int = 0
    """Images that were compared."""
    equal: int = 0
    """Of them, those that are equal to their solo runs to the bit."""
    largest: int = 0
    """Largest difference of a byte."""
    wrong: list[str] = field(default_factory=list)
    """Images that differ from their solo runs by more than TOLERANCE."""
    runs: Counter[int] = field(default_factory=Counter)
    """Runs of the denoiser by the number of their images."""
    pressed: int = 0
    """Shared runs that there was no memory for."""
    resident: list[int] = field(default_factory=list)
    """Bytes in memory after each request."""
    left_over: int = -1
    """Tasks that were still in the loop at the end."""

    @property
    def growth(self) -> float:
        """Memory in the second half against the first, of medians, without the first tenth."""
        settled = self.resident[len(self.resident) // 10 :]
        half = len(settled) // 2
        return float(np.median(settled[half:]) / np.median(settled[:half]))


@dataclass(eq=False, kw_only=True)
class Device:
    """A device with too little memory at times, and a note of what was run on it."""

    pipeline: Pipeline
    tally: Tally
    random: np.random.Generator

    def denoise(self, runs: Sequence[DenoiseRequest]) -> Sequence[torch.Tensor]:
        """See Pipeline.predict."""
        if runs[0].size == (_REFUSED_CELLS, _REFUSED_CELLS):
            raise torch.OutOfMemoryError("no room for a picture of this size")
        if len(runs) > 1 and self.random.random() < _PRESSED:
            self.tally.pressed += 1
            raise torch.OutOfMemoryError("no room for so many")
        self.tally.runs[len(runs)] += 1
        return self.pipeline.predict(runs)


def configuration(folder: Path) -> DiffusionConfig:
    """A small random model in a new `folder`, with two ControlNets and two LoRAs."""
    model = tiny_sdxl.write(folder)
    return DiffusionConfig(
        model=str(model),
        device="cpu",
        controlnets={
            kind: str(write_adapters.write_controlnet(folder / kind.value, model, seed=seed))
            for seed, kind in enumerate((ControlType.CANNY, ControlType.DEPTH))
        },
        loras={
            name: str(write_adapters.write_lora(folder / name, model, seed=seed, text=seed == 1))
            for seed, name in enumerate(("style", "figure"))
        },
    )


@asynccontextmanager
async def started(config: DiffusionConfig) -> AsyncGenerator[DiffusionEngine]:
    """An engine at work."""
    engine = DiffusionEngine(config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def soak(
    engine: DiffusionEngine, judge: DiffusionEngine, requests: Sequence[Request], *, callers: int
) -> Tally:
    """Have so many callers send the requests, each its next when the last has ended.

    Args:
        engine: is put through it, up to ROWS rows in a run.
        judge: generates every image alone; an engine of the same configuration that does nothing
            else, so that whatever the crowd leaves behind in one is not in the other.
        requests: in order.
        callers: requests at once.
    """
    tally = Tally()
    loop, pipeline = parts(engine)
    device = Device(pipeline=pipeline, tally=tally, random=np.random.default_rng(0))
    await loop.call(partial(loop.configure, device.denoise, FairBatcher(FixedLimit(rows=ROWS))))
    waiting = iter(enumerate(requests))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(_keep_asking(engine, judge, waiting, tally))
    finally:
        await loop.call(partial(loop.configure, pipeline.predict, FairBatcher(FixedLimit(rows=1))))
    tally.left_over = len(loop._tasks)
    return tally


def parts(engine: DiffusionEngine) -> tuple[DenoiseScheduler, Pipeline]:
    """Of an engine that is started."""
    assert engine._scheduler is not None
    return engine._scheduler, engine.inspect()


async def _keep_asking(
    engine: DiffusionEngine,
    judge: DiffusionEngine,
    waiting: Iterator[tuple[int, Request]],
    tally: Tally,
) -> None:
    for index, request in waiting:
        pictures: Pictures = {}
        outcome = await _outcome(engine, request, pictures)
        tally.outcomes[outcome] += 1
        if not _is_due(outcome, request, pictures):
            tally.astray.append(f"request {index} {outcome}: {request.task}")
        if pictures:
            await _compare(judge, request.task, pictures, tally)
        tally.resident.append(_resident_bytes())


async def _outcome(engine: DiffusionEngine, request: Request, pictures: Pictures) -> str:
    """How it ended; whatever images came are put into `images`."""
    asking = asyncio.create_task(_ask(engine, request, pictures))
    if request.leaves_after_seconds is not None:
        asyncio.get_running_loop().call_later(request.leaves_after_seconds, asking.cancel)
    try:
        return await asking
    except asyncio.CancelledError:
        return "left"
    except EngineError as error:
        return type(error).__name__


async def _ask(engine: DiffusionEngine, request: Request, pictures: Pictures) -> str:
    validation.validate(engine.capabilities, request.task)
    seen = 0
    async with aclosing(engine.run(request.task)) as events:
        async for event in events:
            match event:
                case Output(media=Pixels(array=array), seed=seed):
                    pictures[seed] = array
                case _:
                    pass
            seen += 1
            if seen == request.leaves_after_events:
                return "left"
    return "finished"


def _is_due(outcome: str, request: Request, pictures: Pictures) -> bool:
    """Whether it is what the request should come to."""
    if request.expected is not None:
        return outcome == request.expected.__name__
    if outcome == "left":
        return not request.stays
    return outcome == "finished" and set(pictures) == set(request.task.seeds)


async def _compare(
    judge: DiffusionEngine, task: ImageTask, pictures: Pictures, tally: Tally
) -> None:
    """Hold images against those that the judge generates of the same seeds alone."""
    alone = await _alone(judge, replace(task, seeds=tuple(pictures)))
    for seed, made in pictures.items():
        difference = int(np.abs(made.astype(int) - alone[seed].astype(int)).max())
        tally.pictures += 1
        tally.equal += difference == 0
        tally.largest = max(tally.largest, difference)
        if difference > TOLERANCE:
            tally.wrong.append(f"seed {seed} differs by {difference}: {task}")


async def _alone(judge: DiffusionEngine, task: ImageTask) -> Pictures:
    events: list[Event] = []
    loop, pipeline = parts(judge)
    await loop.call(partial(run_alone, pipeline, task, events.append))
    return {
        event.seed: event.media.array
        for event in events
        if isinstance(event, Output) and isinstance(event.media, Pixels)
    }


def _resident_bytes() -> int:
    """Memory of this process, 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
