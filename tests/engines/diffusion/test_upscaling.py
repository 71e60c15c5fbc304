"""What is painted can be enlarged in the same task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.event import Output, Stage, Step
from atelier_engines.media import Pixels
from atelier_engines.task import Upscale
from tests.engines.diffusion.calls import collect_events, generate_images, image_task
from tests.engines.upscaling import networks


@pytest.fixture(scope="module")
def enlarger(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiffusionEngine]:
    """An engine with a small network that enlarges, in tiles of 64 pixels."""
    weights = networks.compact(tmp_path_factory.mktemp("upscalers"))
    made = DiffusionEngine(
        DiffusionConfig(
            model=str(model),
            device="cpu",
            upscalers={"sharp": weights},
            upscale_tile=64,
            upscale_overlap=16,
        )
    )
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_without_weights_an_image_is_enlarged_by_lanczos(engine: DiffusionEngine) -> None:
    """The same image as without, larger."""
    (plain,) = await generate_images(engine, image_task())
    (large,) = await generate_images(engine, image_task(upscale=Upscale(factor=1.5)))
    wanted = Image.fromarray(plain).resize((96, 96), Image.Resampling.LANCZOS)
    assert np.array_equal(large, np.asarray(wanted))


async def test_a_configured_network_enlarges_what_was_painted(enlarger: DiffusionEngine) -> None:
    """It is the default, and gives what it gives for the plain image."""
    (plain,) = await generate_images(enlarger, image_task())
    (large,) = await generate_images(enlarger, image_task(upscale=Upscale(factor=2.0)))
    (named,) = await generate_images(
        enlarger, image_task(upscale=Upscale(factor=2.0, model="sharp"))
    )
    upscaler = enlarger.inspect().upscalers.by_name["sharp"]
    _, wanted = networks.result_of(upscaler, Pixels(array=plain), 2.0)
    assert np.array_equal(large, wanted.array)
    assert np.array_equal(large, named)


async def test_every_part_that_is_enlarged_is_a_step_of_the_task(
    enlarger: DiffusionEngine,
) -> None:
    """Steps count up over denoising and enlarging of all images, to the number said at first."""
    task = image_task(width=128, height=64, seeds=(1, 2), steps=2, upscale=Upscale(factor=2.0))
    events = await collect_events(enlarger, task)
    tiles = enlarger.inspect().upscalers.by_name["sharp"].tile_count(128, 64)
    assert tiles > 1
    steps = [(event.index, event.total) for event in events if isinstance(event, Step)]
    total = 2 * (2 + tiles)
    assert steps == [(index, total) for index in range(1, total + 1)]
    stages = [event.name for event in events if isinstance(event, Stage)]
    assert stages.count("upscale") == 2
    sizes = [
        (event.media.width, event.media.height)
        for event in events
        if isinstance(event, Output) and isinstance(event.media, Pixels)
    ]
    assert sizes == [(256, 128)] * 2


async def test_others_go_on_while_an_image_is_enlarged(enlarger: DiffusionEngine) -> None:
    """A task of many tiles lets another one's steps in between."""
    order: list[str] = []

    async def follow(name: str, task_width: int, **more: object) -> None:
        task = image_task(width=task_width, guidance=1.0, **more)
        async for event in (events := enlarger.run(task)):
            if isinstance(event, Step):
                order.append(name)
        await events.aclose()

    await asyncio.gather(
        follow("large", 512, steps=1, upscale=Upscale(factor=2.0)),
        follow("small", 64, steps=6),
    )
    first, last = order.index("small"), len(order) - order[::-1].index("small")
    assert "large" in order[first:last]
    assert order[-1] == "large"
