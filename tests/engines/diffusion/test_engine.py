"""The engine's life: what it says while it works, how it stops, how it fails."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from atelier_engines.diffusion import ENGINE, DiffusionConfig, DiffusionEngine
from atelier_engines.errors import (
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    OutOfMemoryError,
    UnsupportedError,
)
from atelier_engines.event import Output, Stage, Step
from atelier_engines.registry import load
from atelier_engines.task import AudioTask
from tests.engines.diffusion.calls import collect_events, generate_images, image_task
from tests.engines.diffusion.inspection import unet_of

HUGE = 2**25
"""Latents of this side take more memory than a process can address."""


@pytest.fixture
def runs(engine: DiffusionEngine) -> Iterator[list[int]]:
    """Grows by the number of rows at every run of the denoiser."""
    rows: list[int] = []
    unet = unet_of(engine)
    hook = unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def test_importing_and_making_an_engine_imports_no_torch() -> None:
    """A gateway may know the engine's type and configuration without its weight."""
    program = (
        "import sys; from atelier_engines.diffusion import ENGINE;"
        "engine = ENGINE.create(ENGINE.config()); engine.capabilities;"
        "print({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().strip() == "set()"


def test_it_is_registered_under_its_name() -> None:
    """The entry point leads here."""
    assert load("diffusion") is ENGINE


async def test_it_tells_stages_steps_and_outputs_in_order(engine: DiffusionEngine) -> None:
    """Steps count over all images; every image comes as soon as it is done."""
    events = await collect_events(engine, image_task(seeds=(1, 2), steps=2))
    told: list[object] = []
    for event in events:
        match event:
            case Stage(name=name):
                told.append(name)
            case Step(index=index, total=total):
                told.append((index, total))
            case Output(seed=seed):
                told.append(seed)
            case _:
                told.append(event)
    assert told == [
        "encode_text",
        *("denoise", (1, 4), (2, 4), "decode", 1),
        *("denoise", (3, 4), (4, 4), "decode", 2),
    ]


async def test_a_second_order_scheduler_counts_the_steps_that_were_asked_for(
    engine: DiffusionEngine, runs: list[int]
) -> None:
    """Heun runs the denoiser twice a step, but for the last."""
    events = await collect_events(engine, image_task(scheduler="heun", steps=3))
    steps = [(event.index, event.total) for event in events if isinstance(event, Step)]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert len(runs) == 5


@pytest.mark.parametrize(("guidance", "rows"), [(0.0, 1), (1.0, 1), (1.01, 2), (7.0, 2)])
async def test_without_guidance_the_denoiser_runs_on_the_prompt_alone(
    engine: DiffusionEngine, runs: list[int], guidance: float, rows: int
) -> None:
    """Guidance of 1 and below has no effect, and costs nothing."""
    await collect_events(engine, image_task(guidance=guidance, steps=2))
    assert runs == [rows, rows]


async def test_closing_stops_within_a_step_and_the_next_task_runs(
    engine: DiffusionEngine, runs: list[int]
) -> None:
    """After the close nothing of the old task is left on the device."""
    async with aclosing(engine.run(image_task(steps=150))) as events:
        async for event in events:
            if isinstance(event, Step):
                break
        at_close = len(runs)
    after_close = len(runs)
    assert after_close - at_close <= 1
    assert await generate_images(engine, image_task(steps=2))
    assert len(runs) == after_close + 2


async def test_a_cancelled_task_that_waits_never_begins(
    engine: DiffusionEngine, runs: list[int]
) -> None:
    """A task behind another one can go without a trace."""
    async with aclosing(engine.run(image_task(steps=20))) as first:
        assert isinstance(await anext(first), Stage)
        waiting = asyncio.create_task(collect_events(engine, image_task(seeds=(99,), steps=30)))
        await asyncio.sleep(0)
        waiting.cancel()
        rest = [event async for event in first]
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert isinstance(rest[-1], Output)
    assert len(runs) == 20


async def test_tasks_at_once_do_not_mix(engine: DiffusionEngine) -> None:
    """Each gets the image it gets alone."""
    tasks = [image_task(seeds=(seed,), scheduler="euler_a") for seed in (1, 2, 3)]
    alone = [await generate_images(engine, task) for task in tasks]
    together = await asyncio.gather(*(generate_images(engine, task) for task in tasks))
    for (one,), (other,) in zip(alone, together, strict=True):
        assert (one == other).all()


async def test_too_many_steps_for_the_scheduler_are_the_callers_mistake(
    engine: DiffusionEngine,
) -> None:
    """LCM has but 50 steps to choose from."""
    with pytest.raises(InvalidTaskError, match="lcm does not support 51 steps") as caught:
        await collect_events(engine, image_task(scheduler="lcm", steps=51))
    assert caught.value.field == "steps"


async def test_a_scheduler_it_does_not_have_is_unsupported(engine: DiffusionEngine) -> None:
    """The message names those it has."""
    with pytest.raises(UnsupportedError, match="dpmpp_2m_karras"):
        await collect_events(engine, image_task(scheduler="plms"))


async def test_sound_is_unsupported(engine: DiffusionEngine) -> None:
    """It makes images only."""
    task = AudioTask(prompt="rain", duration_seconds=1, seed=1, sample_rate=48000, channels=1)
    with pytest.raises(UnsupportedError):
        await collect_events(engine, task)


async def test_an_image_too_large_for_the_memory_is_out_of_memory(
    engine: DiffusionEngine,
) -> None:
    """The engine survives it."""
    with pytest.raises(OutOfMemoryError, match=f"{HUGE} x {HUGE} pixels"):
        await collect_events(engine, image_task(width=HUGE, height=HUGE))
    assert await generate_images(engine, image_task())


async def test_whatever_torch_raises_becomes_an_engine_error(engine: DiffusionEngine) -> None:
    """A size off the grid of latents makes layers disagree; guarded engines never see one."""
    with pytest.raises(EngineFailedError, match="failed on cpu"):
        await collect_events(engine, image_task(width=4, height=4))


async def test_numbers_that_overflow_are_an_error_and_no_black_image(
    engine: DiffusionEngine,
) -> None:
    """An infinite prediction stands for what float16 does to some models."""
    unet = unet_of(engine)
    hook = unet.register_forward_hook(lambda *call: (call[-1][0] * float("inf"),))
    try:
        with pytest.raises(EngineFailedError, match="another precision"):
            await collect_events(engine, image_task())
    finally:
        hook.remove()


async def test_before_the_start_it_is_unavailable(model: Path) -> None:
    """Also after a stop."""
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cpu"))
    with pytest.raises(EngineUnavailableError):
        await engine.check()
    with pytest.raises(EngineUnavailableError):
        await collect_events(engine, image_task())
    await engine.start()
    await engine.check()
    await engine.stop()
    with pytest.raises(EngineUnavailableError):
        await engine.check()


async def test_its_check_does_not_wait_for_a_task_at_work(
    engine: DiffusionEngine, runs: list[int]
) -> None:
    """Health is asked for often, and must not queue behind images."""
    async with aclosing(engine.run(image_task(steps=100))) as events:
        assert isinstance(await anext(events), Stage)
        await engine.check()
        assert len(runs) < 100
        rest = [event async for event in events]
    assert sum(isinstance(event, Step) for event in rest) == 100


async def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    """It can be started again once the model is there."""
    engine = DiffusionEngine(DiffusionConfig(model=str(tmp_path / "none"), device="cpu"))
    for _ in range(2):
        with pytest.raises(Exception, match="no model directory"):
            await engine.start()
    assert engine._scheduler is None
