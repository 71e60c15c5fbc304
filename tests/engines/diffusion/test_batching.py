"""Images that share runs of the denoiser are the same as alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch

from atelier_engines.diffusion import DiffusionEngine
from atelier_engines.diffusion.batching import DenoiseRequest, DenoiseScheduler, FixedLimit
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.errors import EngineFailedError, OutOfMemoryError
from atelier_engines.event import Event, Step
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.local.step_scheduler import FairBatcher
from atelier_engines.task import ImageTask
from tests.engines.diffusion.calls import image_task
from tests.engines.diffusion.recording_family import RecordingFamily
from tests.engines.diffusion.test_parity_init_images import mask, photo

TOLERANCE = 1e-5
"""Of pixels of -1 to 1. A run for several sums in another order than a run for one."""
TOLERANCE_DDIM = 5e-5
"""DDIM divides by the share of signal, which makes much of the last bits where there is little."""

MIXED = (
    image_task(prompt="a red apple", seeds=(1,), steps=6),
    image_task(prompt="a blue house", seeds=(2, 3), steps=4, scheduler="euler_a"),
    image_task(prompt="blue", seeds=(4,), steps=5, guidance=1.0, scheduler="dpmpp_2m"),
    image_task(prompt="red", seeds=(5,), steps=3, scheduler="heun", negative_prompt="apple"),
    image_task(
        prompt="house", seeds=(6,), steps=8, scheduler="ddim", init_image=photo(), strength=0.5
    ),
    image_task(prompt="house", seeds=(7,), steps=5, init_image=photo(), mask=mask(), strength=0.8),
    image_task(prompt="a red apple", seeds=(8,), steps=4, width=96, height=64),
)


@dataclass(eq=False)
class Bench:
    """A scheduler with a model, and the batches that it ran."""

    loop: DenoiseScheduler
    pipeline: Pipeline
    runs: list[int] = field(default_factory=list)
    """Number of images in each run."""
    refuse: Callable[[Sequence[DenoiseRequest]], None] = lambda _: None
    """Raises an error where a run is to fail."""

    def denoise(self, runs: Sequence[DenoiseRequest]) -> Sequence[torch.Tensor]:
        """Run the denoiser, and note for how many."""
        self.refuse(runs)
        self.runs.append(len(runs))
        return self.pipeline.predict(runs)

    async def generate(self, task: ImageTask) -> list[torch.Tensor]:
        """The images of a task, as floats."""
        family = RecordingFamily(self.pipeline.family)
        await self.follow(replace(self.pipeline, family=family), task)
        return family.decoded

    async def follow(self, pipeline: Pipeline, task: ImageTask) -> list[Event]:
        """The events of a task."""
        async with aclosing(self.loop.stream(partial(pipeline.start, task))) as events:
            return [event async for event in events]

    async def under_way(self, working: asyncio.Task[Any]) -> None:
        """Return when the denoiser has been run, or the work is done."""
        while not self.runs and not working.done():
            await self.loop.call(lambda: None)

    async def alone(self, task: ImageTask) -> list[torch.Tensor]:
        """The images of a task, generated without the scheduler."""
        family = RecordingFamily(self.pipeline.family)
        work = partial(run_alone, replace(self.pipeline, family=family), task, lambda _: None)
        await self.loop.call(work)
        return family.decoded


@pytest.fixture
async def bench(engine: DiffusionEngine) -> AsyncIterator[Bench]:
    """Up to eight rows in a run, on one thread."""
    pipeline = engine.inspect()
    made = Bench(loop=DenoiseScheduler("test"), pipeline=pipeline)
    await made.loop.call(lambda: torch.set_num_threads(1))
    await made.loop.call(
        partial(made.loop.configure, made.denoise, FairBatcher(FixedLimit(rows=8)))
    )
    yield made
    await made.loop.stop()


async def test_every_image_of_a_mixed_batch_is_the_one_it_is_alone(bench: Bench) -> None:
    """Other prompts, steps, schedulers, guidances, sizes, images to start from: no difference."""
    together = await asyncio.gather(*(bench.generate(task) for task in MIXED))
    assert max(bench.runs) >= 3
    for task, made in zip(MIXED, together, strict=True):
        tolerance = TOLERANCE_DDIM if task.scheduler == "ddim" else TOLERANCE
        for one, other in zip(made, await bench.alone(task), strict=True):
            assert torch.allclose(one, other, rtol=0, atol=tolerance), task.scheduler


async def test_a_single_image_in_the_scheduler_is_bit_identical(bench: Bench) -> None:
    """The loop itself changes nothing."""
    (made,) = await bench.generate(MIXED[0])
    assert torch.equal(made, (await bench.alone(MIXED[0]))[0])


async def test_tasks_enter_and_leave_while_others_run(bench: Bench) -> None:
    """A late one does not wait for the early one's end, nor the early one for the late."""
    early: list[str] = []
    finished = asyncio.Event()

    async def long() -> None:
        task = image_task(steps=40, guidance=1.0)
        async with aclosing(bench.loop.stream(partial(bench.pipeline.start, task))) as events:
            async for event in events:
                if isinstance(event, Step):
                    early.append("long")
                if len(early) == 3:
                    finished.set()
        early.append("end")

    working = asyncio.create_task(long())
    await finished.wait()
    await bench.generate(image_task(steps=2, guidance=1.0, seeds=(9,)))
    assert early[-1] == "long"
    await working
    assert {1, 2} == set(bench.runs)


async def test_an_image_with_nan_fails_alone(bench: Bench) -> None:
    """Its neighbours in the run are painted as if it had not been there."""
    good, bad = (
        image_task(prompt="a red apple", steps=6),
        image_task(prompt="blue", steps=6, seeds=(3,)),
    )
    family = RecordingFamily(bench.pipeline.family)

    class NanFamily(RecordingFamily):
        def condition(self, *words: str, **settings: Any) -> Any:  # noqa: ANN401 (as above)
            """See Family.condition."""
            made = self.family.condition(*words, **settings)
            return replace(made, prompt_embeds=made.prompt_embeds * torch.nan)

    results = await asyncio.gather(
        bench.follow(replace(bench.pipeline, family=family), good),
        bench.follow(replace(bench.pipeline, family=NanFamily(bench.pipeline.family)), bad),
        return_exceptions=True,
    )
    assert isinstance(results[1], EngineFailedError)
    assert max(bench.runs) == 2
    assert torch.allclose(family.decoded[0], (await bench.alone(good))[0], rtol=0, atol=TOLERANCE)


async def test_batches_that_do_not_fit_are_split(bench: Bench) -> None:
    """Out of memory for four is not out of memory for one; nobody notices but the log."""

    def refuse(runs: Sequence[DenoiseRequest]) -> None:
        if len(runs) > 1:
            raise torch.OutOfMemoryError("no room for so many")

    bench.refuse = refuse
    tasks = [image_task(seeds=(seed,), steps=3) for seed in range(4)]
    made = await asyncio.gather(*(bench.generate(task) for task in tasks))
    assert set(bench.runs) == {1}
    for task, (picture,) in zip(tasks, made, strict=True):
        assert torch.equal(picture, (await bench.alone(task))[0])


async def test_a_request_that_does_not_fit_alone_fails_alone(bench: Bench) -> None:
    """The others in its run go on."""

    def refuse(runs: Sequence[DenoiseRequest]) -> None:
        # A batch changes the last bits, so the latents are compared with a tolerance.
        if any(abs(float(run.inputs.latents[0, 0, 0, 0]) - marked) < 1e-4 for run in runs):
            raise torch.OutOfMemoryError("no room for this one")

    task = image_task(seeds=(1,), steps=3)
    marked = float("nan")
    seen: list[DenoiseRequest] = []
    bench.refuse = seen.extend
    await bench.generate(task)
    marked = float(seen[1].inputs.latents[0, 0, 0, 0])
    bench.refuse = refuse
    results = await asyncio.gather(
        bench.generate(task),
        bench.generate(image_task(seeds=(2,), steps=3)),
        return_exceptions=True,
    )
    assert isinstance(results[0], OutOfMemoryError)
    assert not isinstance(results[1], BaseException)


async def test_when_all_images_of_a_task_fail_the_others_continue(bench: Bench) -> None:
    """The first failure ends the task; what its other images asked for is dropped."""

    def refuse(runs: Sequence[DenoiseRequest]) -> None:
        if any(run.inputs.latents.shape[-1] == 8 for run in runs):
            raise torch.OutOfMemoryError("no room for these")

    bench.refuse = refuse
    several = image_task(seeds=(1, 2, 3, 4), steps=3)
    other = image_task(width=96, steps=3)
    results = await asyncio.gather(
        bench.generate(several), bench.generate(other), return_exceptions=True
    )
    assert isinstance(results[0], OutOfMemoryError)
    assert not isinstance(results[1], BaseException)
    bench.refuse = lambda _: None
    assert len(await bench.generate(several)) == 4


async def test_a_bug_in_the_scheduler_ends_all_tasks_with_an_error(bench: Bench) -> None:
    """Whoever is in it is told, and the next one is served."""

    class Broken(FairBatcher):
        def next(self, waiting: Sequence[Any]) -> list[Any]:
            """See FairBatcher.next."""
            del waiting
            raise LookupError("nobody thought of this")

    await bench.loop.call(lambda: bench.loop.configure(bench.denoise, Broken(FixedLimit(rows=1))))
    with pytest.raises(LookupError):
        await bench.generate(image_task())
    await bench.loop.call(
        lambda: bench.loop.configure(bench.denoise, FairBatcher(FixedLimit(rows=1)))
    )
    assert len(await bench.generate(image_task())) == 1


async def test_a_cancelled_task_stops_within_one_run(bench: Bench) -> None:
    """When the close returns, no run for it is begun any more; the others are not disturbed."""
    long, other = (
        image_task(steps=150, guidance=1.0),
        image_task(steps=30, guidance=1.0, seeds=(2,)),
    )
    working = asyncio.create_task(bench.generate(other))
    stream = bench.loop.stream(partial(bench.pipeline.start, long))
    async for event in stream:
        if isinstance(event, Step) and event.index == 5:
            break
    before = len(bench.runs)
    await stream.aclose()
    (made,) = await working
    together = [rows for rows in bench.runs[before:] if rows > 1]
    assert len(together) <= 2  # the one that runs, and the one that is ready to
    assert bench.runs[-1] == 1
    assert torch.allclose(made, (await bench.alone(other))[0], rtol=0, atol=TOLERANCE)


async def test_many_requests_of_one_size_do_not_starve_another_size(bench: Bench) -> None:
    """Groups that cannot share a run take turns."""
    crowd = [image_task(steps=12, guidance=1.0, seeds=(seed,)) for seed in range(6)]
    working = [asyncio.create_task(bench.generate(task)) for task in crowd]
    await asyncio.sleep(0)
    await bench.generate(image_task(width=72, height=72, steps=4, guidance=1.0))
    assert not any(task.done() for task in working)
    await asyncio.gather(*working)


async def test_calls_run_between_two_steps(bench: Bench) -> None:
    """What must happen on the device's thread does not wait for the end of a task."""
    working = asyncio.create_task(bench.generate(image_task(steps=60, guidance=1.0)))
    await bench.under_way(working)
    assert not working.done()
    await working


async def test_stopping_the_scheduler_ends_the_remaining_tasks(bench: Bench) -> None:
    """Nobody waits for ever."""
    working = asyncio.create_task(bench.generate(image_task(steps=150)))
    await bench.under_way(working)
    await bench.loop.stop()
    assert await working == []
    bench.loop = DenoiseScheduler("another, for the fixture to stop")


@dataclass(frozen=True, eq=False)
class WaitingRequest:
    """Waits for a run of some size."""

    request: DenoiseRequest


def _waiting_request(bench: Bench, width: int) -> WaitingRequest:
    painting = bench.pipeline.start(image_task(width=width, steps=1), lambda _: None)[0]
    with torch.inference_mode():
        asked = next(painting)
    painting.close()
    assert asked is not None
    return WaitingRequest(asked)


async def test_groups_alternate_and_within_a_group_requests_go_by_arrival(bench: Bench) -> None:
    """The group that has waited longest is next; a run takes whom it has room for, in order."""
    small = [_waiting_request(bench, 64) for _ in range(3)]
    large = [_waiting_request(bench, 96) for _ in range(2)]
    turns = FairBatcher(FixedLimit(rows=4))
    waiting = [small[0], large[0], small[1], large[1], small[2]]
    assert turns.next(waiting) == [small[0], small[1]]
    assert turns.next(waiting) == [large[0], large[1]]
    assert turns.next(waiting[2:]) == [small[1], small[2]]
    assert turns.next([small[2]]) == [small[2]]
    assert turns.next(waiting) == [large[0], large[1]]


async def test_a_request_larger_than_the_limit_runs_alone(bench: Bench) -> None:
    """Else it would wait for ever."""
    waiting = [_waiting_request(bench, 64), _waiting_request(bench, 64)]
    assert FairBatcher(FixedLimit(rows=1)).next(waiting) == waiting[:1]
