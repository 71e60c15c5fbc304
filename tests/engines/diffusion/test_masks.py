"""Masks to the pixel: thin marks are inpainted, and what is not marked is kept to the byte."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atelier.v1 import task_pb2 as pb
from atelier_engines.compositing import FEATHER
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.media import Pixels
from atelier_server.artifacts.canvas import lay_out
from tests.engines.diffusion import tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.test_parity_init_images import photo


@pytest.fixture(scope="module", params=[4, 9], ids=["plain", "inpainting"])
def keeping(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DiffusionEngine]:
    """A started engine as it is by default, of a plain model and of one that was made to inpaint."""
    folder: Path = tiny_sdxl.write(tmp_path_factory.mktemp("masks"), channels=request.param)
    made = DiffusionEngine(DiffusionConfig(model=str(folder), device="cpu"))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


def marks(*places: tuple[slice, slice], side: int = 64) -> Pixels:
    """A black mask with white places."""
    array = np.zeros((side, side, 1), np.uint8)
    for place in places:
        array[place] = 255
    return Pixels(array=array)


ALL = slice(None)
LINE = marks((slice(21, 22), ALL))
SPOT = marks((slice(43, 45), slice(19, 20)))
BOX = marks((slice(16, 40), slice(8, 48)))
LARGE_LINE = marks(
    (slice(675, 677), ALL), side=2048
)  # less than a tenth of a row in the task's size


def distances(mask: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """How far each pixel of a mask in the task's size is from the next marked one, along the farther axis."""
    rows, columns = np.nonzero(mask.array[:, :, 0])
    y, x = np.mgrid[0:64, 0:64]
    away = np.maximum(np.abs(y[..., None] - rows), np.abs(x[..., None] - columns))
    return np.asarray(away.min(axis=-1))


@pytest.mark.parametrize("strength", [0.7, 1.0])
@pytest.mark.parametrize("mask", [LINE, SPOT, BOX], ids=["line", "spot", "box"])
async def test_marked_pixels_change_and_others_are_kept(
    keeping: DiffusionEngine, mask: Pixels, strength: float
) -> None:
    """Thin marks off the grid too; between lies a feather."""
    init, away = photo(), distances(mask)
    task = image_task(init_image=init, mask=mask, strength=strength, steps=4)
    (made,) = await generate_images(keeping, task)
    assert np.array_equal(made[away > FEATHER], init.array[away > FEATHER])
    assert (made[away == 0] != init.array[away == 0]).any(axis=-1).mean() > 0.9
    assert (made[away <= FEATHER] != init.array[away <= FEATHER]).any()


async def test_marked_pixels_are_those_that_were_inpainted(keeping: DiffusionEngine) -> None:
    """Where all is marked, nothing of the init image is laid over it."""
    everywhere = image_task(init_image=photo(), mask=marks((ALL, ALL)), strength=1.0, steps=4)
    (first,) = await generate_images(keeping, everywhere)
    (second,) = await generate_images(
        keeping,
        image_task(
            init_image=Pixels(array=255 - photo().array),
            mask=marks((ALL, ALL)),
            strength=1.0,
            steps=4,
        ),
    )
    assert np.array_equal(first, second)


async def test_a_mask_without_a_mark_keeps_the_image(keeping: DiffusionEngine) -> None:
    """To the byte, whatever strength says; so does each image of the task."""
    task = image_task(init_image=photo(), mask=marks(), strength=1.0, steps=2, seeds=(1, 2))
    for made in await generate_images(keeping, task):
        assert np.array_equal(made, photo().array)


async def test_a_mark_outlives_a_larger_mask(keeping: DiffusionEngine) -> None:
    """The mask is reduced to a thirty-second; rows 675 and 676 are in row 21."""
    task = image_task(init_image=photo(), mask=LARGE_LINE, strength=1.0, steps=4)
    (made,) = await generate_images(keeping, task)
    (wanted,) = await generate_images(
        keeping, image_task(init_image=photo(), mask=LINE, strength=1.0, steps=4)
    )
    assert np.array_equal(made, wanted)
    assert not np.array_equal(made[21], photo().array[21])


async def test_a_task_may_say_what_its_mask_means(keeping: DiffusionEngine) -> None:
    """As in diffusers, though the engine is configured to keep the rest to the byte."""
    task = image_task(
        init_image=photo(),
        mask=marks(),
        strength=1.0,
        steps=2,
        options={"mask_mode": "latent"},
    )
    (made,) = await generate_images(keeping, task)
    assert not np.array_equal(made, photo().array)


async def test_a_part_drawn_in_the_models_size_is_put_back(keeping: DiffusionEngine) -> None:
    """Into a larger image, which changes around the mask alone."""
    image = np.kron(photo().array, np.ones((3, 3, 1), np.uint8))
    mask = marks((slice(90, 110), slice(60, 90)), side=192)
    task = image_task(init_image=Pixels(array=image), mask=mask, strength=1.0, steps=2)
    given, canvas = lay_out(task, pb.ImageTask(padding_mask_crop=8))
    assert canvas is not None
    (drawn,) = await generate_images(keeping, given)
    made = canvas.paste(Pixels(array=drawn)).array
    around = np.zeros((192, 192), bool)
    around[90 - FEATHER : 110 + FEATHER, 60 - FEATHER : 90 + FEATHER] = True
    assert np.array_equal(made[~around], image[~around])
    assert (made[90:110, 60:90] != image[90:110, 60:90]).any(axis=-1).mean() > 0.9
