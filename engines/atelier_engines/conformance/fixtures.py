"""The fixtures of the suite: the engine, started once for each class, and its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

import pytest

from atelier_engines.capabilities import (
    AudioCapabilities,
    Capabilities,
    ImageCapabilities,
    Reproducibility,
)
from atelier_engines.conformance.tasks import audio_task, image_task
from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output, Step
from atelier_engines.media import Encoded, Pixels, Samples
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.validation import ValidatingEngine

ResultT = TypeVar("ResultT")
Run = Callable[[Awaitable[ResultT]], ResultT]


class RunCounter:
    """A wrapper that counts the runs of the engine under test."""

    def __init__(self, inner: Engine) -> None:
        """Count the runs of `inner`."""
        self._inner = inner
        self.runs = 0

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._inner.capabilities

    async def start(self) -> None:
        """See Engine.start."""
        await self._inner.start()

    async def check(self) -> None:
        """See Engine.check."""
        await self._inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        await self._inner.stop()

    def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run."""
        self.runs += 1
        return self._inner.run(task)


class EngineUnderTest:
    """The engine under test as a server runs it, in the event loop of its test class."""

    def __init__(self, engine: Engine, runner: asyncio.Runner, timeout_seconds: float) -> None:
        """Wrap `engine`; a call that takes longer than `timeout_seconds` fails."""
        self._counter = RunCounter(engine)
        self.engine = ValidatingEngine(self._counter)
        self._runner = runner
        self._timeout_seconds = timeout_seconds

    @property
    def capabilities(self) -> Capabilities:
        """Its capabilities."""
        return self.engine.capabilities

    @property
    def runs(self) -> int:
        """Number of runs that were begun."""
        return self._counter.runs

    @property
    def bit_exact(self) -> bool:
        """Whether it claims equal bytes for equal tasks."""
        return self.capabilities.reproducibility is Reproducibility.BIT_EXACT

    def wait(self, work: Awaitable[ResultT]) -> ResultT:
        """Wait for `work` and return its result.

        Raises:
            TimeoutError: it takes longer than the timeout.
        """

        async def run_with_timeout() -> ResultT:
            async with asyncio.timeout(self._timeout_seconds):
                return await work

        return self._runner.run(run_with_timeout())

    def events(self, task: Task) -> list[Event]:
        """All events of a task."""
        return self.wait(collect_events(self.engine, task))

    def outputs(self, task: Task) -> list[Output]:
        """The outputs of a task."""
        return [event for event in self.events(task) if isinstance(event, Output)]

    def bytes_of(self, task: Task) -> list[bytes]:
        """The outputs of a task as bytes, to compare."""
        return [media_bytes(output) for output in self.outputs(task)]

    def steps(self, task: Task) -> list[Step]:
        """The steps of a task."""
        return [event for event in self.events(task) if isinstance(event, Step)]


async def collect_events(engine: Engine, task: Task) -> list[Event]:
    """All events of a task."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


def media_bytes(output: Output) -> bytes:
    """The bytes of an image or audio clip."""
    match output.media:
        case Encoded(data=data):
            return data
        case Pixels(array=pixels):
            return pixels.tobytes()
        case Samples(array=samples):
            return samples.tobytes()


class ConformanceFixtures:
    """The fixtures of the suite; override `engine`."""

    timeout_seconds = 120.0
    """Timeout of each call; longer than any task of the suite takes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """The engine to test, not started."""
        raise NotImplementedError("override the fixture `engine`, of scope class")

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, engine: Engine) -> Iterator[EngineUnderTest]:
        """The engine, started."""
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            subject = EngineUnderTest(engine, runner, cls.timeout_seconds)
            subject.wait(subject.engine.start())
            yield subject
            subject.wait(subject.engine.stop())

    @pytest.fixture
    def image(self, subject: EngineUnderTest) -> ImageCapabilities:
        """Its image capabilities; skips engines without image tasks."""
        if subject.capabilities.image is None:
            pytest.skip("it does not support image tasks")
        return subject.capabilities.image

    @pytest.fixture
    def audio(self, subject: EngineUnderTest) -> AudioCapabilities:
        """Its audio capabilities; skips engines without audio tasks."""
        if subject.capabilities.audio is None:
            pytest.skip("it does not support audio tasks")
        return subject.capabilities.audio

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A fast image task; override where the default size is slow."""
        return image_task(image)

    @pytest.fixture
    def audio_task(self, audio: AudioCapabilities) -> AudioTask:
        """A fast audio task."""
        return audio_task(audio)

    @pytest.fixture(params=["image_task", "audio_task"])
    def task(self, request: pytest.FixtureRequest) -> Task:
        """A fast task of each kind that the engine supports."""
        task: Task = request.getfixturevalue(request.param)
        return task
