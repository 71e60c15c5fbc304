"""What the tests of all vendors share: fixtures of a fake service, and what they look for in events."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, aclosing
from typing import TypeVar

import numpy as np
import pytest

from atelier_engines.closing import Closing, Stop, announce
from atelier_engines.conformance.fake_server import Handler
from atelier_engines.conformance.remote_service import FakeService, collect_events, run_engine
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask, Task

ServiceT = TypeVar("ServiceT", bound=FakeService)


def service_fixtures(
    run: Callable[[], AbstractContextManager[ServiceT]],
) -> tuple[Callable[[], Iterator[ServiceT]], Callable[[ServiceT], ServiceT]]:
    """The fixtures `running`, a fake service for the whole session, and `vendor`, the same one reset."""

    @pytest.fixture(scope="session")
    def running() -> Iterator[ServiceT]:
        """Started once."""
        with run() as service:
            yield service

    @pytest.fixture
    def vendor(running: ServiceT) -> ServiceT:
        """Without jobs or scripted failures."""
        running.reset()
        return running

    return running, vendor


async def run_task(engine: Engine, task: Task) -> list[Event]:
    """All events of the task."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


async def stop_when(
    service: FakeService, reached: Callable[[Event], bool], task: ImageTask | None = None
) -> Stop | None:
    """What the engine says of the work of a run that is closed at the first event for which `reached` is true."""
    closing = Closing()
    announce(closing)
    async with run_engine(service) as engine:
        async with aclosing(engine.run(task or service.task)) as events:
            async for event in events:
                if reached(event):
                    break
        return closing.stop


def at_stage(name: str) -> Callable[[Event], bool]:
    """Whether an event is the stage of that name."""
    return lambda event: isinstance(event, Stage) and event.name == name


def failed_submissions(
    *rows: tuple[Handler, type[EngineError], str],
) -> Callable[[FakeService, Handler, type[EngineError], str], Coroutine[None, None, None]]:
    """A test of responses that only one service gives: each is translated, and nothing is sent again."""

    @pytest.mark.parametrize(("response", "error", "message"), rows, ids=range(len(rows)))
    async def test(
        vendor: FakeService, response: Handler, error: type[EngineError], message: str
    ) -> None:
        """A rejection says why; what may have been accepted is uncertain."""
        vendor.submits.add(response)
        with pytest.raises(error, match=message):
            await collect_events(vendor)
        assert vendor.accepted == 0, "the request was sent again"

    return test


def outputs(events: Iterable[Event]) -> list[Encoded]:
    """The images, all of which must be files."""
    media = [event.media for event in events if isinstance(event, Output)]
    assert all(isinstance(one, Encoded) for one in media)
    return [one for one in media if isinstance(one, Encoded)]


def steps(events: Iterable[Event]) -> list[tuple[int, int]]:
    """Index and total of every step."""
    return [(event.index, event.total) for event in events if isinstance(event, Step)]


def previews(events: Iterable[Event]) -> list[Encoded | None]:
    """The preview of every step."""
    return [event.preview for event in events if isinstance(event, Step)]


def plain(width: int, height: int, value: int, channels: int = 3) -> Pixels:
    """An image of one colour."""
    return Pixels(array=np.full((height, width, channels), value, np.uint8))


def noise(width: int, height: int) -> Pixels:
    """An image that cannot be compressed."""
    random = np.random.default_rng(1)
    return Pixels(array=random.integers(0, 256, (height, width, 3), np.uint8))
