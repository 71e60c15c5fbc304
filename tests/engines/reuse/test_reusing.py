"""Tasks without a seed get clips that were made before; all others are untouched."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest

from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.fixtures import RunCounter, collect_events
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Event, Output, Reused, Stage
from atelier_engines.media import Samples
from atelier_engines.reuse.config import ReuseConfig
from atelier_engines.reuse.engine import ReusingEngine
from atelier_engines.reuse.variants import Vector
from atelier_engines.sketch import ENGINE
from atelier_engines.sketch.config import SketchConfig
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.wrappers.caching import set_cache_tenant

RAIN = AudioTask(
    prompt="rain falls",
    duration_seconds=0.2,
    seed=7,
    sample_rate=44100,
    channels=2,
    steps=4,
    reuse=True,
)


class WordOverlap:
    """Stands in for a sentence embedding: texts with many words in common are similar."""

    def embed(self, text: str) -> Vector | None:
        """Counts of words, by their checksums."""
        counts = np.zeros(64, np.float32)
        for word in text.lower().split():
            counts[zlib.crc32(word.encode()) % 64] += 1
        return np.asarray(counts / np.linalg.norm(counts), np.float32)


class Gate(RunCounter):
    """Counts runs; after so many it lets none pass, until it is stopped, or has it fail."""

    def __init__(self, inner: Engine) -> None:
        """Let the tasks of `inner` pass."""
        super().__init__(inner)
        self.closes_after: int | None = None
        self.fails_after: int | None = None
        self.waiting: asyncio.Queue[Task] = asyncio.Queue()
        self.stopped = 0
        self.tasks: list[Task] = []

    def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run."""
        self.tasks.append(task)
        if self.closes_after is not None and len(self.tasks) > self.closes_after:
            return self._wait(task)
        if self.fails_after is not None and len(self.tasks) > self.fails_after:
            raise EngineFailedError("it broke")
        return super().run(task)

    async def _wait(self, task: Task) -> AsyncGenerator[Event]:
        self.waiting.put_nowait(task)
        try:
            await asyncio.Event().wait()
            yield Stage(name="never")
        finally:
            self.stopped += 1


@dataclass
class Reusing:
    """A started engine, and what runs below it."""

    engine: ReusingEngine
    gate: Gate

    async def clip(self, task: Task) -> Output:
        """What a task gets."""
        last = (await collect_events(self.engine, task))[-1]
        assert isinstance(last, Output)
        return last

    async def clips(self, task: AudioTask, number: int, first_seed: int = 100) -> list[Output]:
        """What so many equal tasks get, one after the other, each with a seed of its own."""
        return [await self.clip(replace(task, seed=first_seed + one)) for one in range(number)]


@asynccontextmanager
async def reusing(**settings: object) -> AsyncGenerator[Reusing]:
    """Around a sketch engine."""
    gate = Gate(ENGINE.create(SketchConfig()))
    config = ReuseConfig.model_validate({"tau_prompt_sem": 0.7, **settings})
    engine = ReusingEngine(gate, config, WordOverlap)
    await engine.start()
    try:
        yield Reusing(engine, gate)
    finally:
        await engine.stop()


def samples(output: Output) -> bytes:
    """The samples of a clip."""
    assert isinstance(output.media, Samples)
    return output.media.array.tobytes()


class TestReusing(EngineConformance):
    """What it wraps stays an engine."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Not started."""
        config = ReuseConfig(prefetch_in_background=True)
        return ReusingEngine(ENGINE.create(SketchConfig()), config, WordOverlap)


async def test_a_prompt_gets_new_clips_until_there_are_enough_and_then_one_of_them() -> None:
    """Said to be made before, with the seed that it was made with, after a stage of its own."""
    async with reusing(target_per_prompt=2) as it:
        made = await it.clips(RAIN, 2)
        assert [(one.cached, one.reused, one.seed) for one in made] == [
            (False, None, 100),
            (False, None, 101),
        ]
        again = await collect_events(it.engine, RAIN)
        assert again[0] == Stage(name="reuse")
        (last,) = again[1:]
        assert isinstance(last, Output)
        assert last.cached
        assert last.reused == Reused(prompt="rain falls", similarity=1.0)
        assert samples(last) == {one.seed: samples(one) for one in made}[last.seed]
        drawn = {one.seed for one in await it.clips(RAIN, 20, first_seed=0)}
        assert drawn == {100, 101}
        assert it.gate.runs == 2


class Scoring(RunCounter):
    """Gives clips a score by their seed."""

    scores: Mapping[int, float]

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run."""
        async with aclosing(super().run(task)) as events:
            async for event in events:
                if isinstance(event, Output):
                    yield replace(event, score=self.scores.get(event.seed))
                else:
                    yield event


async def test_quality_lets_the_clip_go_that_matches_least() -> None:
    """Of several that were made side by side; one without a score goes first."""
    for scores, left in (({1: 0.5, 2: 0.2, 3: 0.9}, {1, 3}), ({1: 0.5, 2: -0.2}, {1, 2})):
        inner = Scoring(ENGINE.create(SketchConfig()))
        inner.scores = scores
        config = ReuseConfig(
            use_bge=False, target_per_prompt=2, max_per_prompt=2, cap_strategy="quality"
        )
        engine = ReusingEngine(inner, config, WordOverlap)
        await engine.start()
        await asyncio.gather(
            *(collect_events(engine, replace(RAIN, seed=seed)) for seed in (1, 2, 3))
        )
        drawn = set()
        for seed in range(100, 120):
            last = (await collect_events(engine, replace(RAIN, seed=seed)))[-1]
            assert isinstance(last, Output)
            drawn.add(last.seed)
        await engine.stop()
        assert drawn == left


async def test_a_draw_is_decided_by_the_task_and_prefers_what_is_similar() -> None:
    """The same task, run again after a crash, gets the same clip; `temperature` makes it even."""
    async with reusing(target_per_prompt=2, temperature=0.001) as it:
        await it.clip(replace(RAIN, prompt="rain falls here", seed=1))
        await it.clip(replace(RAIN, seed=2))
        drawn = [(await it.clip(replace(RAIN, seed=seed))).seed for seed in range(9)]
        assert drawn == [2] * 9
    async with reusing(target_per_prompt=2, temperature=100.0) as it:
        await it.clip(replace(RAIN, prompt="rain falls here", seed=1))
        await it.clip(replace(RAIN, seed=2))
        drawn = [(await it.clip(replace(RAIN, seed=seed))).seed for seed in range(20)]
        assert set(drawn) == {1, 2}
        assert [(await it.clip(replace(RAIN, seed=seed))).seed for seed in range(20)] == drawn


async def test_a_similar_prompt_will_do_and_is_named() -> None:
    """With its similarity; below the threshold, or with another number, a clip of its own is made."""
    async with reusing(target_per_prompt=1) as it:
        await it.clip(RAIN)
        near = await it.clip(replace(RAIN, prompt="rain falls here"))
        assert near.reused is not None
        assert near.reused.prompt == "rain falls"
        assert near.reused.similarity == pytest.approx((2 / 3) ** 0.5, abs=1e-6)
        for other in ("wind blows", "rain falls twice", "no rain falls"):
            assert (await it.clip(replace(RAIN, prompt=other))).reused is None


async def test_without_an_embedding_only_the_same_words_will_do() -> None:
    """Nothing is loaded then."""
    async with reusing(target_per_prompt=1, use_bge=False) as it:
        await it.clip(RAIN)
        assert (await it.clip(replace(RAIN, prompt="Rain falls."))).reused is not None
        assert (await it.clip(replace(RAIN, prompt="rain falls here"))).reused is None


@pytest.mark.parametrize(
    "change",
    [
        {"reuse": False},
        {"duration_seconds": 0.3},
        {"negative_prompt": "wind"},
        {"guidance": 3.0},
        {"steps": 5},
        {"seamless_loop": True},
        {"channels": 1},
        {"candidates": 2},
        {"options": {"delay_seconds": 0.0}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_differs_in_anything_else_is_made(change: dict[str, object]) -> None:
    """An explicit seed above all."""
    async with reusing(target_per_prompt=1) as it:
        await it.clip(RAIN)
        other = await it.clip(replace(RAIN, **change))  # type: ignore[arg-type]  # fields by name
        assert (other.reused, other.cached, other.seed) == (None, False, RAIN.seed)
        assert it.gate.runs == 2


async def test_what_was_made_for_an_explicit_seed_serves_nobody_else() -> None:
    """It may be a caller's own recipe."""
    async with reusing(target_per_prompt=1) as it:
        await it.clip(replace(RAIN, reuse=False))
        assert (await it.clip(RAIN)).reused is None


async def test_images_pass() -> None:
    """The engine below decides what becomes of them."""
    picture = ImageTask(prompt="rain falls", width=64, height=64, seeds=(7,), steps=4, guidance=5.0)
    async with reusing(target_per_prompt=1) as it:
        for _ in range(2):
            assert (await it.clip(picture)).reused is None


@pytest.mark.parametrize("share", [False, True])
async def test_tenants_get_each_others_clips_only_if_that_is_configured(*, share: bool) -> None:
    """A receipt names the prompt of the other."""
    async with reusing(target_per_prompt=1, share=share) as it:
        set_cache_tenant("one")
        await it.clip(RAIN)
        set_cache_tenant("two")
        assert ((await it.clip(RAIN)).reused is not None) is share
        set_cache_tenant("one")
        assert (await it.clip(RAIN)).reused is not None


async def test_a_task_that_is_left_keeps_nothing() -> None:
    """Only what completed is a clip."""
    async with reusing(target_per_prompt=1) as it:
        async with aclosing(it.engine.run(RAIN)) as events:
            await anext(events)
        assert (await it.clip(RAIN)).reused is None


async def test_missing_clips_are_made_in_the_background() -> None:
    """As many as the target says, with seeds that follow from the task's; the next tasks find them."""
    seeds = []
    for _ in range(2):
        async with reusing(target_per_prompt=3, prefetch_in_background=True) as it:
            await it.clip(RAIN)
            await it.engine.wait_idle()
            assert it.gate.runs == 3
            drawn = await it.clips(RAIN, 40, first_seed=0)
            assert all(one.reused for one in drawn)
            assert it.gate.runs == 3
            seeds.append({one.seed for one in drawn})
    assert len(seeds[0]) == 3
    assert RAIN.seed in seeds[0]
    assert seeds[0] == seeds[1]


async def test_nothing_is_made_in_the_background_unless_that_is_configured() -> None:
    """It would take the device."""
    async with reusing(target_per_prompt=3) as it:
        await it.clip(RAIN)
        await it.engine.wait_idle()
        assert it.gate.runs == 1


async def test_one_task_has_only_so_many_made_in_the_background() -> None:
    """The rest waits for further tasks."""
    async with reusing(
        target_per_prompt=5, prefetch_in_background=True, max_new_when_prefetch=1
    ) as it:
        await it.clip(RAIN)
        await it.engine.wait_idle()
        assert it.gate.runs == 2


async def test_a_task_stops_what_is_made_in_the_background() -> None:
    """At once; it is begun again when nothing else runs."""
    async with reusing(target_per_prompt=2, prefetch_in_background=True) as it:
        it.gate.closes_after = 1
        await it.clip(RAIN)
        await it.gate.waiting.get()
        it.gate.closes_after = None
        other = await it.clip(replace(RAIN, prompt="wind", reuse=False))
        assert it.gate.stopped == 1
        assert other.reused is None
        await it.engine.wait_idle()
        prompts = [task.prompt for task in it.gate.tasks]
        assert prompts == ["rain falls", "rain falls", "wind", "rain falls"]
        assert (await it.clip(RAIN)).reused is not None


async def test_what_is_made_in_the_background_ends_with_the_engine() -> None:
    """A stop waits for no clip that nobody has asked for."""
    async with reusing(target_per_prompt=2, prefetch_in_background=True) as it:
        it.gate.closes_after = 1
        await it.clip(RAIN)
        await it.gate.waiting.get()
    assert it.gate.stopped == 1


async def test_a_failure_in_the_background_is_told_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No caller waits for that clip."""
    async with reusing(target_per_prompt=2, prefetch_in_background=True) as it:
        it.gate.fails_after = 1
        await it.clip(RAIN)
        await it.engine.wait_idle()
        assert "prefetch_failed" in caplog.text
        it.gate.fails_after = None
        assert (await it.clip(RAIN)).reused is None
