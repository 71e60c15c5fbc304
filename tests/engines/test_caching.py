"""Equal tasks are made once, and given again as they were; what was not finished is never kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier_engines.capabilities import (
    AudioCapabilities,
    Capabilities,
    ImageCapabilities,
    Reproducibility,
)
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.fixtures import (
    EngineUnderTest,
    RunCounter,
    collect_events,
    media_bytes,
)
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Dispatched, Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.sketch import ENGINE
from atelier_engines.sketch.config import SketchConfig
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.wrappers.caching import CachingEngine
from atelier_engines.wrappers.output_cache import OutputCache, copy_views, size_of

PICTURE = ImageTask(prompt="a boat", width=64, height=48, seeds=(7,), steps=4, guidance=5.0)
SOUND = AudioTask(
    prompt="rain", duration_seconds=0.2, seed=7, sample_rate=16000, channels=1, steps=4
)
ROOM = 2**24


class TestCached(EngineConformance):
    """The sketch engine with its results kept, through the suite for all engines."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """For one at a time: an equal task that comes meanwhile waits, and the suite would for both."""
        inner = ENGINE.create(SketchConfig(concurrency=1))
        return CachingEngine(inner=inner, name="sketch", max_bytes=ROOM)

    def test_previews_are_sent_on_request_and_are_small(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """Of work, that is: of what is given again there is none to show."""
        anew = replace(image_task, prompt="not asked for before", preview_interval=1)
        super().test_previews_are_sent_on_request_and_are_small(subject, image, anew)
        assert not subject.steps(anew)

    def test_previews_of_audio_are_sent_on_request_and_are_small(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """As those of images."""
        anew = replace(audio_task, prompt="wind", seed=audio_task.seed + 1, preview_interval=1)
        super().test_previews_of_audio_are_sent_on_request_and_are_small(subject, audio, anew)
        assert not subject.steps(anew)


@dataclass
class Cached:
    """A cache around a sketch engine, and what was seen of them."""

    engine: CachingEngine
    counted: RunCounter
    lookups: list[bool]

    async def outputs(self, task: Task) -> list[Output]:
        """What the task makes."""
        return [
            event for event in await collect_events(self.engine, task) if isinstance(event, Output)
        ]


@asynccontextmanager
async def cached(max_bytes: int = ROOM, **settings: object) -> AsyncGenerator[Cached]:
    """A started one."""
    counted = RunCounter(ENGINE.create(SketchConfig.model_validate(settings)))
    lookups: list[bool] = []
    engine = CachingEngine(
        inner=counted, name="sketch", max_bytes=max_bytes, on_lookup=lookups.append
    )
    await engine.start()
    yield Cached(engine, counted, lookups)
    await engine.stop()


@pytest.mark.parametrize(
    "task", [PICTURE, replace(PICTURE, seeds=(7, 8, 9)), SOUND], ids=["one", "three", "sound"]
)
async def test_an_equal_task_gets_the_cached_result(task: Task) -> None:
    """The same media and seeds, marked, after a stage of its own, without any work."""
    async with cached() as it:
        made = await it.outputs(task)
        again = await collect_events(it.engine, task)
        assert again[0] == Stage(name="cache")
        outputs = [event for event in again if isinstance(event, Output)]
        assert len(outputs) == len(again) - 1
        assert [replace(output, cached=False) for output in outputs] == made
        assert all(output.cached for output in outputs)
        assert not any(output.cached for output in made)
        assert it.counted.runs == 1
        assert it.lookups == [False, True]


async def test_only_previews_are_not_part_of_the_key() -> None:
    """Another seed, or another number of them, is another task."""
    async with cached() as it:
        await it.outputs(replace(PICTURE, preview_interval=1))
        await it.outputs(PICTURE)
        assert it.counted.runs == 1
        for other in (
            replace(PICTURE, seeds=(8,)),
            replace(PICTURE, seeds=(7, 8)),
            replace(PICTURE, prompt="a ship"),
        ):
            await it.outputs(other)
        assert it.counted.runs == 4


async def test_seeds_without_effect_hit_the_cache(tmp_path: Path) -> None:
    """A folder of one picture gives that one; the seed said is the one asked for."""
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    async with cached(image_directory=tmp_path) as it:
        await it.outputs(replace(PICTURE, guidance=None))
        (again,) = await it.outputs(replace(PICTURE, guidance=None, seeds=(99,)))
        assert (again.cached, again.seed, it.counted.runs) == (True, 99, 1)


async def test_large_images_are_hashed_off_the_event_loop() -> None:
    """The way by a thread gives the same answers."""
    values = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    other = values.copy()
    other[-1, -1, -1] ^= 1
    large = replace(PICTURE, width=512, height=512, init_image=Pixels(array=values))
    async with cached() as it:
        await it.outputs(large)
        (again,) = await it.outputs(replace(large, init_image=Pixels(array=values.copy())))
        assert again.cached
        (anew,) = await it.outputs(replace(large, init_image=Pixels(array=other)))
        assert not anew.cached


async def test_failed_and_cancelled_tasks_are_not_cached() -> None:
    """Even when an output had come already."""
    async with cached() as it:
        failing = replace(PICTURE, seeds=(7, 8), options={"fail": True})
        for _ in range(2):
            with pytest.raises(EngineFailedError):
                await it.outputs(failing)
        assert it.counted.runs == 2
        async with aclosing(it.engine.run(PICTURE)) as events:
            async for event in events:
                if isinstance(event, Output):
                    break
        assert it.engine.held_bytes == 0
        (made,) = await it.outputs(PICTURE)
        assert not made.cached


async def test_equal_concurrent_tasks_run_once() -> None:
    """The others wait, say so, and are given what the first one made."""
    async with cached(delay_seconds=0.2) as it:
        runs = await asyncio.gather(*(collect_events(it.engine, PICTURE) for _ in range(5)))
        assert it.counted.runs == 1
        waiting = [run for run in runs if run[0] == Stage(name="wait")]
        assert len(waiting) == 4
        assert all(run[1] == Stage(name="cache") for run in waiting)
        assert len({media_bytes(run[-1]) for run in runs if isinstance(run[-1], Output)}) == 1
        assert sorted(it.lookups) == [False, True, True, True, True]


async def test_when_the_first_fails_the_next_runs() -> None:
    """Each in its turn, for what fails one may not fail another; nobody waits for ever."""
    async with cached(delay_seconds=0.1, fail_rate=1) as it:
        runs = (collect_events(it.engine, PICTURE) for _ in range(3))
        ends = await asyncio.gather(*runs, return_exceptions=True)
        assert [type(end) for end in ends] == [EngineFailedError] * 3
        assert it.counted.runs == 3


async def test_when_the_first_is_cancelled_the_next_runs() -> None:
    """And those behind wait for that one."""
    async with cached(delay_seconds=0.2) as it:
        first = it.engine.run(PICTURE)
        await anext(first)
        others = [asyncio.create_task(it.outputs(PICTURE)) for _ in range(3)]
        await asyncio.sleep(0)
        await first.aclose()
        made = await asyncio.gather(*others)
        assert it.counted.runs == 2
        assert sorted(output.cached for (output,) in made) == [False, True, True]


async def test_a_waiting_task_can_be_cancelled() -> None:
    """The one it waited for goes on."""
    async with cached(delay_seconds=0.2) as it:
        first = asyncio.create_task(it.outputs(PICTURE))
        await asyncio.sleep(0)
        second = it.engine.run(PICTURE)
        assert await anext(second) == Stage(name="wait")
        stopped = asyncio.create_task(anext(second))
        await asyncio.sleep(0)
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        await second.aclose()
        assert len(await first) == 1
        assert it.counted.runs == 1


async def test_results_too_large_to_cache_do_not_block_waiting_tasks() -> None:
    """An equal task is made side by side as soon as that shows, and ends before the first."""
    async with cached(max_bytes=10_000) as it:
        many = replace(PICTURE, seeds=(1, 2, 3))
        async with aclosing(it.engine.run(many)) as first:
            assert isinstance(await anext(first), Stage)
            second = asyncio.create_task(it.outputs(many))
            await asyncio.sleep(0)
            assert it.counted.runs == 1
            async for event in first:
                if isinstance(event, Output):
                    break
            third = asyncio.create_task(it.outputs(many))
            assert [len(await other) for other in (second, third)] == [3, 3]
            assert len([event async for event in first if isinstance(event, Output)]) == 2
        assert it.counted.runs == 3
        assert it.engine.held_bytes == 0


async def test_the_least_recently_used_entry_is_dropped_first() -> None:
    """And never more is held than may be."""
    (output,) = [Output(media=Encoded(media_type="image/png", data=b"x" * 5000), seed=1)]
    each = size_of([output])
    shelf = OutputCache(max_bytes=3 * each)
    for key in (b"a", b"b", b"c"):
        shelf.put(key, [output])
    assert shelf.get(b"a")
    shelf.put(b"d", [output])
    assert [shelf.get(key) is None for key in (b"a", b"b", b"c", b"d")] == [
        False,
        True,
        False,
        False,
    ]
    shelf.put(b"d", [output, output])
    assert shelf.held_bytes == 3 * each
    shelf.put(b"huge", [output] * 4)
    assert shelf.get(b"huge") is None
    assert shelf.held_bytes == 3 * each
    shelf.clear()
    assert (shelf.held_bytes, shelf.get(b"d")) == (0, None)


async def test_views_of_larger_arrays_are_copied_before_they_are_cached() -> None:
    """Or they would hold a whole batch; arrays of their own stay as they are."""
    batch = np.zeros((4, 8, 8, 3), np.uint8)
    own = np.zeros((8, 8, 3), np.uint8)
    kept = copy_views([Output(media=Pixels(array=array), seed=1) for array in (batch[0], own)])
    arrays = [output.media.array for output in kept if isinstance(output.media, Pixels)]
    assert not np.shares_memory(arrays[0], batch)
    assert arrays[1] is own


@dataclass
class Batched(RunCounter):
    """A sketch engine whose pictures are views of one array, as many of them as `limit` says."""

    limit: int = 9

    def __post_init__(self) -> None:
        """Sketch."""
        super().__init__(ENGINE.create(SketchConfig()))

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """Draw all before giving any out."""
        async with aclosing(super().run(task)) as events:
            made = [event async for event in events if isinstance(event, Output)]
        yield Stage(name="draw")
        arrays = [output.media.array for output in made if isinstance(output.media, Pixels)]
        for output, view in zip(made[: self.limit], np.stack(arrays), strict=False):
            yield replace(output, media=Pixels(array=view))


async def test_a_batch_is_not_kept_for_one_of_its_images() -> None:
    """What is given again has arrays of its own, whether copied at once or by a thread."""
    engine = CachingEngine(inner=Batched(), name="it", max_bytes=ROOM)
    await engine.start()
    for side in (64, 512):
        task = replace(PICTURE, width=side, height=side, seeds=(1, 2))
        before = await collect_events(engine, task)
        after = await collect_events(engine, task)
        arrays = [
            event.media.array
            for event in (*before, *after)
            if isinstance(event, Output) and isinstance(event.media, Pixels)
        ]
        assert np.array_equal(np.stack(arrays[:2]), np.stack(arrays[2:]))
        assert [array.base is None for array in arrays] == [False, False, True, True]


async def test_results_with_missing_images_are_not_cached() -> None:
    """Whatever the engine was thinking: one for two seeds is no answer to give again."""
    inner = Batched(limit=1)
    engine = CachingEngine(inner=inner, name="it", max_bytes=ROOM)
    await engine.start()
    for _ in range(2):
        events = await collect_events(engine, replace(PICTURE, seeds=(1, 2)))
        assert len([event for event in events if isinstance(event, Output)]) == 1
    assert inner.runs == 2


async def test_a_start_clears_the_cache() -> None:
    """Weights may have been replaced meanwhile."""
    async with cached() as it:
        await it.outputs(PICTURE)
        assert it.engine.held_bytes > 64 * 48 * 3
        await it.engine.stop()
        assert it.engine.held_bytes == 0
        await it.engine.start()
        (made,) = await it.outputs(PICTURE)
        assert not made.cached


@dataclass
class Remote(RunCounter):
    """A sketch engine as a remote service: it tells a handle, and does not promise to repeat."""

    kind: Reproducibility = Reproducibility.BEST_EFFORT
    resumed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Sketch."""
        super().__init__(ENGINE.create(SketchConfig()))

    @property
    def capabilities(self) -> Capabilities:
        """As it is told."""
        return replace(super().capabilities, reproducibility=self.kind)

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """Tell a handle first."""
        self.resumed.append(task.resume)
        yield Dispatched(handle="it")
        async with aclosing(super().run(task)) as events:
            async for event in events:
                yield event


async def test_irreproducible_results_are_not_cached(caplog: pytest.LogCaptureFixture) -> None:
    """The log warns at the start; two equal tasks are two pieces of work."""
    remote = Remote()
    engine = CachingEngine(inner=remote, name="far", max_bytes=ROOM)
    with caplog.at_level(logging.WARNING):
        await engine.start()
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["engine"]) == ("result_cache_disabled", "far")
    for _ in range(2):
        events = await collect_events(engine, PICTURE)
        assert isinstance(events[0], Dispatched)
    assert remote.runs == 2


async def test_tasks_that_resume_a_job_are_never_looked_up() -> None:
    """The service has taken it, and has it paid for."""
    remote = Remote(kind=Reproducibility.SAME_ENGINE)
    engine = CachingEngine(inner=remote, name="far", max_bytes=ROOM)
    await engine.start()
    await collect_events(engine, PICTURE)
    await collect_events(engine, replace(PICTURE, resume="it"))
    assert remote.resumed == ["", "it"]
    events = await collect_events(engine, PICTURE)
    assert not any(isinstance(event, Dispatched | Step) for event in events)
