"""Several devices as one engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import pytest
from pydantic import ValidationError

from atelier_engines.capabilities import Reproducibility
from atelier_engines.conformance.tasks import image_task
from atelier_engines.diffusion import ENGINE, DiffusionConfig
from atelier_engines.errors import EngineError, EngineUnavailableError
from atelier_engines.event import Event, Output
from atelier_engines.local.device_group import DeviceGroup
from atelier_engines.sketch.config import SketchConfig
from atelier_engines.sketch.engine import SketchEngine
from atelier_engines.task import ImageTask, Task


class Fragile(SketchEngine):
    """An engine whose device breaks on demand, and that counts what it starts."""

    def __init__(self) -> None:
        super().__init__(SketchConfig(concurrency=2))
        self.broken = False
        self.begun = 0

    async def check(self) -> None:
        """Fails while it is broken."""
        if self.broken:
            raise EngineUnavailableError("the fan has stopped")
        await super().check()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """As the engine, counted."""
        self.begun += 1
        async with aclosing(super().run(task)) as events:
            async for event in events:
                yield event


@pytest.fixture
async def group() -> AsyncGenerator[tuple[DeviceGroup, list[Fragile]]]:
    """Two devices, started."""
    engines = [Fragile(), Fragile()]
    made = DeviceGroup([("cuda:0", engines[0]), ("cuda:1", engines[1])])
    await made.start()
    yield made, engines
    await made.stop()


async def draw(engine: DeviceGroup, task: ImageTask) -> Output:
    """The image of a task."""
    async with aclosing(engine.run(task)) as events:
        (output,) = [event async for event in events if isinstance(event, Output)]
        return output


async def test_a_task_runs_on_the_device_with_the_fewest(
    group: tuple[DeviceGroup, list[Fragile]],
) -> None:
    """Two at once are on two devices; the next is on the one that has ended."""
    made, engines = group
    image = made.capabilities.image
    assert image is not None
    assert made.capabilities.concurrency == 4
    held = replace(image_task(image), options={"hang": True})
    async with aclosing(made.run(held)) as first:
        await anext(first)
        for _ in range(3):
            await draw(made, image_task(image))
        assert [engine.begun for engine in engines] == [1, 3]
    await draw(made, image_task(image))
    assert [engine.begun for engine in engines] == [2, 3]


async def test_a_device_that_fails_is_left_out_until_it_works(
    group: tuple[DeviceGroup, list[Fragile]],
) -> None:
    """The engine works as long as one does."""
    made, engines = group
    image = made.capabilities.image
    assert image is not None
    engines[0].broken = True
    await made.check()
    await draw(made, image_task(image))
    assert [engine.begun for engine in engines] == [0, 1]
    engines[1].broken = True
    with pytest.raises(EngineUnavailableError, match=r"cuda:0: the fan .* cuda:1: the fan"):
        await made.check()
    engines[0].broken = engines[1].broken = False
    await made.check()
    await draw(made, image_task(image))
    assert engines[0].begun == 1


async def test_devices_that_differ_reproduce_less_exactly() -> None:
    """A CPU rounds otherwise than a card; two of a kind do not."""
    kinds = [("cpu", "cpu"), ("cpu", "cuda:0")]
    made = [DeviceGroup([(name, Fragile()) for name in names]) for names in kinds]
    assert [one.capabilities.reproducibility for one in made] == [
        Reproducibility.BIT_EXACT,
        Reproducibility.SAME_ENGINE,
    ]


async def test_a_failed_start_leaves_no_device_started() -> None:
    """The first is stopped when the second fails."""
    first = Fragile()
    missing = ENGINE.create(DiffusionConfig(model="/nowhere", device="cpu"))
    made = DeviceGroup([("cpu", first), ("cpu", missing)])
    with pytest.raises(EngineError, match="nowhere"):
        await made.start()
    with pytest.raises(EngineUnavailableError, match="not started"):
        await first.check()


def test_one_way_to_name_devices() -> None:
    """One, or several."""
    with pytest.raises(ValidationError, match="not both"):
        DiffusionConfig(device="cpu", devices=("cpu",))
    with pytest.raises(ValidationError, match="devices"):
        DiffusionConfig(devices=("gpu",))
