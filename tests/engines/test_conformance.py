"""The suite for all engines catches engines that do not keep their word."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import numpy as np
import pytest

from atelier_engines.capabilities import (
    AudioFeature,
    Capabilities,
    ImageFeature,
    IntegerRange,
    NumberRange,
    Price,
    PriceUnit,
)
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.consistency import contradictions
from atelier_engines.conformance.fixtures import EngineUnderTest
from atelier_engines.conformance.tasks import audio_task, image_task
from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels, Samples
from atelier_engines.sketch import ENGINE
from atelier_engines.task import AudioTask, ImageTask, Task

SUITE = EngineConformance()
Broken = Callable[[Engine, Task], AsyncGenerator[Event]]
MakeSubject = Callable[..., EngineUnderTest]


@dataclass
class FaultyEngine:
    """A sketch engine but for the way it works, which is given."""

    work: Broken
    inner: Engine

    @property
    def capabilities(self) -> Capabilities:
        """What it claims."""
        return self.inner.capabilities

    async def start(self) -> None:
        """Start the sketch engine."""
        await self.inner.start()

    async def check(self) -> None:
        """Check the sketch engine."""
        await self.inner.check()

    async def stop(self) -> None:
        """Stop the sketch engine."""
        await self.inner.stop()

    def run(self, task: Task) -> AsyncGenerator[Event]:
        """Work in the given way."""
        return self.work(self.inner, task)


def changing(change: Callable[[Event, int], Event | None]) -> Broken:
    """Work that changes or leaves out events; `change` gets the event and its number."""

    async def work(inner: Engine, task: Task) -> AsyncGenerator[Event]:
        async with aclosing(inner.run(task)) as events:
            number = 0
            async for event in events:
                changed = change(event, number)
                number += 1
                if changed is not None:
                    yield changed

    return work


def on_steps(change: Callable[[Step], Step]) -> Broken:
    """Work that changes its steps."""
    return changing(lambda event, _: change(event) if isinstance(event, Step) else event)


def on_outputs(change: Callable[[Output], Output]) -> Broken:
    """Work that changes its outputs."""
    return changing(lambda event, _: change(event) if isinstance(event, Output) else event)


def dropping(kind: type[Event]) -> Broken:
    """Work that keeps events of one kind to itself."""
    return changing(lambda event, _: None if isinstance(event, kind) else event)


def forgetting(**fields: object) -> Broken:
    """Work that overlooks what its task says in some fields."""

    def work(inner: Engine, task: Task) -> AsyncGenerator[Event]:
        known = {name: value for name, value in fields.items() if hasattr(task, name)}
        return inner.run(replace(task, **known))  # type: ignore[arg-type]  # fields by name

    return work


def cropped(output: Output) -> Output:
    """The output, a little smaller."""
    media = output.media
    if isinstance(media, Pixels):
        return replace(output, media=Pixels(array=media.array[1:]))
    assert isinstance(media, Samples)
    return replace(output, media=replace(media, array=media.array[1:]))


def rising(output: Output) -> Output:
    """The sound with an offset that grows from none to a half."""
    media = output.media
    assert isinstance(media, Samples)
    slope = np.linspace(0, 0.5, len(media.array))
    return replace(
        output, media=replace(media, array=(media.array / 2 + slope[:, None]).astype(np.float32))
    )


def noisy(output: Output) -> Output:
    """The output, never twice the same."""
    assert isinstance(output.media, Pixels)
    noise = np.random.default_rng().integers(0, 2, output.media.array.shape, np.uint8)
    return replace(output, media=Pixels(array=output.media.array ^ noise))


def large_preview(step: Step) -> Step:
    """The step with a preview that is no small one."""
    return replace(step, preview=step.preview and replace(step.preview, data=b"x" * 10**6))


def unasked_preview(step: Step) -> Step:
    """The step with a preview that nobody asked for."""
    return replace(step, preview=Encoded(media_type="image/png", data=b"png"))


def one_at_a_time() -> Broken:
    """Work that others must wait for, whatever is claimed."""
    lock: list[asyncio.Lock] = []

    async def work(inner: Engine, task: Task) -> AsyncGenerator[Event]:
        if not lock:
            lock.append(asyncio.Lock())
        async with lock[0], aclosing(inner.run(task)) as events:
            async for event in events:
                yield event

    return work


def stuck_after_a_close() -> Broken:
    """Work that, once closed, never gives its device back."""
    free = [True]

    async def work(inner: Engine, task: Task) -> AsyncGenerator[Event]:
        if not free[0]:
            await asyncio.Event().wait()
        free[0] = False
        async with aclosing(inner.run(task)) as events:
            async for event in events:
                yield event
        free[0] = True

    return work


def never_closing() -> Broken:
    """Work that does not end when it is closed."""

    async def work(inner: Engine, task: Task) -> AsyncGenerator[Event]:
        async with aclosing(inner.run(task)) as events:
            try:
                async for event in events:
                    yield event
            finally:
                await asyncio.Event().wait()

    return work


def leaving_a_task_behind() -> Broken:
    """Work that goes on in a task of its own."""
    tasks = []

    async def work(inner: Engine, task: Task) -> AsyncGenerator[Event]:
        tasks.append(asyncio.create_task(asyncio.sleep(60)))
        async with aclosing(inner.run(task)) as events:
            async for event in events:
                yield event

    return work


def swallowing_options() -> Broken:
    """Work that takes any option for good."""
    return forgetting(options={})


@pytest.fixture
def subject_of() -> Iterator[MakeSubject]:
    """Makes a broken engine the subject of the suite."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:

        def make(work: Broken, patience_seconds: float = 0.5) -> EngineUnderTest:
            liar = FaultyEngine(work, ENGINE.create(ENGINE.config()))
            subject = EngineUnderTest(liar, runner, timeout_seconds=patience_seconds)
            subject.wait(subject.engine.start())
            return subject

        yield make


def picture_of(subject: EngineUnderTest) -> ImageTask:
    """The suite's picture."""
    assert subject.capabilities.image is not None
    return replace(image_task(subject.capabilities.image), width=64, height=64)


def sound_of(subject: EngineUnderTest) -> AudioTask:
    """The suite's sound."""
    assert subject.capabilities.audio is not None
    return audio_task(subject.capabilities.audio)


LIES: dict[str, tuple[Broken, Callable[..., None]]] = {
    "progress repeats itself": (
        on_steps(lambda step: replace(step, index=1)),
        SUITE.test_its_steps_increase_and_reach_their_total,
    ),
    "progress never reaches its total": (
        on_steps(lambda step: replace(step, total=step.total + 1)),
        SUITE.test_its_steps_increase_and_reach_their_total,
    ),
    "no output": (dropping(Output), SUITE.test_every_seed_has_its_output_in_order),
    "a wrong seed": (
        on_outputs(lambda output: replace(output, seed=1)),
        SUITE.test_every_seed_has_its_output_in_order,
    ),
    "a stage with a bad name": (
        changing(lambda event, _: Stage(name="Drawing…") if isinstance(event, Stage) else event),
        SUITE.test_its_stages_are_single_lower_case_words,
    ),
    "nothing is announced": (
        changing(lambda event, _: event if isinstance(event, Output) else None),
        SUITE.test_a_stage_or_step_comes_before_the_first_output,
    ),
    "never the same": (on_outputs(noisy), SUITE.test_the_same_seed_gives_equal_bytes),
    "always the same": (forgetting(seeds=(1,)), SUITE.test_another_seed_gives_another_result),
    "closing hangs": (never_closing(), SUITE.test_closing_a_run_returns_and_the_next_one_works),
    "a closed run keeps the device": (
        stuck_after_a_close(),
        SUITE.test_closing_a_run_returns_and_the_next_one_works,
    ),
    "a cancelled run keeps the device": (
        stuck_after_a_close(),
        SUITE.test_cancelling_the_caller_ends_the_work,
    ),
    "a cancelled run goes on": (
        leaving_a_task_behind(),
        SUITE.test_cancelling_the_caller_ends_the_work,
    ),
    "tasks wait for each other": (
        one_at_a_time(),
        SUITE.test_it_runs_as_many_tasks_at_once_as_it_claims,
    ),
    "wrong options are taken": (
        swallowing_options(),
        SUITE.test_an_option_of_the_wrong_type_is_rejected_as_an_invalid_task,
    ),
}
PICTURE_LIES: dict[str, tuple[Broken, Callable[..., None]]] = {
    "wrong size": (on_outputs(cropped), SUITE.test_an_image_has_exactly_the_requested_size),
    "one picture only": (forgetting(seeds=(7,)), SUITE.test_several_seeds_give_several_images),
    "no preview": (
        forgetting(preview_interval=0),
        SUITE.test_previews_are_sent_on_request_and_are_small,
    ),
    "a large preview": (
        on_steps(large_preview),
        SUITE.test_previews_are_sent_on_request_and_are_small,
    ),
    "the start picture is dropped": (
        forgetting(init_image=None),
        SUITE.test_an_initial_image_has_an_effect,
    ),
    "the negative prompt is dropped": (
        forgetting(negative_prompt=""),
        SUITE.test_a_negative_prompt_has_an_effect,
    ),
}
SOUND_LIES: dict[str, tuple[Broken, Callable[..., None]]] = {
    "too short": (on_outputs(cropped), SUITE.test_audio_has_exactly_the_requested_length),
    "always stereo": (forgetting(channels=2), SUITE.test_audio_has_exactly_the_requested_length),
    "a loop with a jump": (on_outputs(rising), SUITE.test_a_seamless_loop_ends_where_it_begins),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_false_claim_about_work_is_caught(subject_of: MakeSubject, lie: str) -> None:
    """Each claim that an engine breaks fails the test that stands for it."""
    work, test = LIES[lie]
    subject = subject_of(work)
    with pytest.raises((Exception, pytest.fail.Exception)):
        test(subject, picture_of(subject))


@pytest.mark.parametrize("lie", PICTURE_LIES)
def test_a_false_claim_about_images_is_caught(subject_of: MakeSubject, lie: str) -> None:
    """Each claim that an engine breaks fails the test that stands for it."""
    work, test = PICTURE_LIES[lie]
    subject = subject_of(work)
    with pytest.raises((Exception, pytest.fail.Exception)):
        test(subject, subject.capabilities.image, picture_of(subject))


@pytest.mark.parametrize("lie", SOUND_LIES)
def test_a_false_claim_about_audio_is_caught(subject_of: MakeSubject, lie: str) -> None:
    """Each claim that an engine breaks fails the test that stands for it."""
    work, test = SOUND_LIES[lie]
    subject = subject_of(work)
    with pytest.raises((Exception, pytest.fail.Exception)):
        test(subject, subject.capabilities.audio, sound_of(subject))


def test_unrequested_previews_are_caught(subject_of: MakeSubject) -> None:
    """Previews cost time and bytes."""
    subject = subject_of(on_steps(unasked_preview))
    with pytest.raises(AssertionError):
        SUITE.test_no_preview_is_sent_without_a_request(subject, picture_of(subject))


def test_the_correct_engine_passes_what_the_others_fail(
    subject_of: MakeSubject,
) -> None:
    """The tests above fail for the lie and for nothing else."""
    subject = subject_of(forgetting(), 60.0)
    picture, sound = picture_of(subject), sound_of(subject)
    for _, test in LIES.values():
        test(subject, picture)
    for _, test in PICTURE_LIES.values():
        test(subject, subject.capabilities.image, picture)
    for _, test in SOUND_LIES.values():
        test(subject, subject.capabilities.audio, sound)


def _claims() -> Iterator[Capabilities]:
    good = ENGINE.create(ENGINE.config()).capabilities
    image, audio = good.image, good.audio
    assert image is not None
    assert audio is not None
    off_grid = IntegerRange(min=1, max=100, default=8, multiple_of=8)
    outside = NumberRange(min=0.0, max=1.0, default=2.0)
    pictures = (
        replace(image, width=off_grid),
        replace(image, steps=IntegerRange(min=5, max=9, default=4)),
        replace(image, guidance=outside),
        replace(image, max_pixels=64),
        replace(image, max_images=0),
        replace(image, schedulers=("euler", "ddim")),
        replace(image, features=image.features | {ImageFeature.LORA}),
        replace(image, features=image.features | {ImageFeature.CONTROLNET}),
        replace(image, features=frozenset(), default_preview_interval=1),
    )
    sounds = (
        replace(audio, duration_seconds=outside),
        replace(audio, sample_rates=()),
        replace(audio, channels=(0,)),
        replace(audio, features=audio.features | {AudioFeature.CANDIDATES}),
    )
    yield from (replace(good, image=claim) for claim in pictures)
    yield from (replace(good, audio=claim) for claim in sounds)
    yield replace(good, image=None, audio=None)
    yield replace(good, concurrency=0)
    yield replace(good, description="two\nlines")
    yield replace(good, options_schema={"type": "object"})
    yield replace(good, price=Price(amount=float("nan"), unit=PriceUnit.IMAGE))


@pytest.mark.parametrize("claims", list(_claims()), ids=itertools.count())
def test_contradictory_capabilities_are_caught(claims: Capabilities) -> None:
    """One sentence or more says what is wrong."""
    assert list(contradictions(claims))
