"""A part of an image is inpainted, or its canvas extended: what is kept is kept to the byte, on every engine."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atelier.v1 import task_pb2 as pb
from atelier_client import AsyncClient, AtelierError, Outpaint, Upscale
from atelier_client.results import Generation
from atelier_engines.capabilities import ImageFeature
from atelier_engines.compositing import FEATHER
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType, ImageTask
from atelier_server.artifacts.canvas import lay_out
from tests.totality.conftest import Serve
from tests.totality.test_decisions import last_task, png, recording

NOISE = np.random.default_rng(1).integers(1, 256, (200, 320, 3), np.uint8)
"""No pixel is black, which is what the engine makes."""


def file_of(array: NDArray[np.uint8]) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def marks(rows: slice, columns: slice, shape: tuple[int, int] = (200, 320)) -> NDArray[np.uint8]:
    """A mask with one white place."""
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 255
    return mask


def image_of(made: Generation) -> NDArray[np.uint8]:
    """The pixels of the only image."""
    with Image.open(io.BytesIO(made.images[0].data)) as image:
        return np.asarray(image.convert("RGB"))


def parameters(made: Generation) -> dict[str, object]:
    """The receipt's values."""
    assert made.receipt is not None
    return {one.name: one.value for one in made.receipt.parameters}


SPOT = marks(slice(60, 80), slice(200, 220))


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_only_what_is_around_the_mask_is_drawn(serve: Serve, engine: str) -> None:
    """In the engine's usual size, from the mask and its padding; then it is put back."""
    recorded = recording()
    async with serve(recorded) as address, AsyncClient(address) as client:
        made = await client.generate(
            "a lamp",
            engine=engine,
            init_image=file_of(NOISE),
            mask=file_of(SPOT),
            padding_mask_crop=12,
        )
    task, image = last_task(recorded), image_of(made)
    assert task.init_image is not None
    assert task.mask is not None
    assert (task.width, task.height) == (128, 128)
    assert np.array_equal(task.init_image.array, NOISE[48:92, 188:232])
    assert np.array_equal(task.mask.array[:, :, 0], SPOT[48:92, 188:232])
    assert image.shape == NOISE.shape
    kept = np.ones((200, 320), bool)
    kept[60 - FEATHER : 80 + FEATHER, 200 - FEATHER : 220 + FEATHER] = False
    assert np.array_equal(image[kept], NOISE[kept])
    assert not image[60:80, 200:220].any()
    assert parameters(made)["padding_mask_crop"] == 12


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_what_is_new_is_drawn(serve: Serve, engine: str) -> None:
    """The canvas decides the size; its old part is kept, and new is marked without a mask."""
    recorded = recording()
    old = NOISE[:80, :100]
    async with serve(recorded) as address, AsyncClient(address) as client:
        sides = Outpaint(right=28, top=16)
        made = await client.generate(
            "a lamp", engine=engine, init_image=file_of(old), outpaint=sides
        )
    task, image = last_task(recorded), image_of(made)
    assert task.mask is not None
    assert (task.width, task.height, task.strength) == (128, 96, 1.0)
    assert np.array_equal(
        task.mask.array[:, :, 0] == 0, marks(slice(16, 96), slice(100), (96, 128)) > 0
    )
    assert image.shape == (96, 128, 3)
    assert np.array_equal(image[16 + FEATHER :, : 100 - FEATHER], old[FEATHER:, : 100 - FEATHER])
    assert not image[:16].any()
    assert not image[:, 100:].any()
    assert parameters(made)["outpaint"] == "top 16, right 28"


async def test_a_canvas_off_the_grid_keeps_its_size(serve: Serve) -> None:
    """The engine draws a little less; the image has every pixel that was asked for."""
    recorded = recording()
    old = NOISE[:75, :101]
    async with serve(recorded) as address, AsyncClient(address) as client:
        made = await client.generate(
            "a lamp", engine="deep", init_image=file_of(old), outpaint=Outpaint(left=30)
        )
    assert (last_task(recorded).width, last_task(recorded).height) == (128, 72)
    image = image_of(made)
    assert image.shape == (75, 131, 3)
    assert np.array_equal(image[:, 30 + FEATHER :], old[:, FEATHER:])
    assert not image[:, :30].any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"outpaint": Outpaint(left=8)}, "outpaint requires init_image"),
        ({"init_image": png(64, 64), "outpaint": Outpaint()}, "give left"),
        ({"init_image": png(64, 64), "padding_mask_crop": 8}, "requires mask or outpaint"),
        (
            {"init_image": png(64, 64), "outpaint": Outpaint(left=8), "upscale": Upscale(factor=2)},
            "upscale the result in a task of its own",
        ),
        (
            {"init_image": png(64, 64), "outpaint": Outpaint(left=8192, right=8192)},
            "at most 64000000 pixels and 16383",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused(
    serve: Serve, given: dict[str, Any], words: str
) -> None:
    """With what to change."""
    async with serve(recording()) as address, AsyncClient(address) as client:
        with pytest.raises(AtelierError, match=words):
            await client.generate("a lamp", engine="deep", **given)


async def test_an_engine_that_does_not_inpaint_does_not_outpaint(serve: Serve) -> None:
    """It is refused by the name of what is missing."""
    recorded = recording(features=frozenset({ImageFeature.IMAGE_TO_IMAGE}))
    async with serve(recorded) as address, AsyncClient(address) as client:
        with pytest.raises(AtelierError, match="inpainting"):
            await client.generate(
                "a lamp", engine="deep", init_image=png(64, 64), outpaint=Outpaint(left=8)
            )


def cropped(
    mask: NDArray[np.uint8],
    padding: int,
    size: tuple[int, int],
    controls: tuple[Control, ...] = (),
) -> ImageTask:
    """The task that an engine gets for a part of the noise, drawn in that size."""
    task = ImageTask(
        prompt="",
        width=size[0],
        height=size[1],
        seeds=(1,),
        init_image=Pixels(array=NOISE),
        mask=Pixels(array=mask[:, :, None]),
        controls=controls,
    )
    given, canvas = lay_out(task, pb.ImageTask(padding_mask_crop=padding))
    assert canvas is not None
    assert np.array_equal(canvas.image, NOISE)
    return given


def test_a_part_at_the_edge_is_moved_inside() -> None:
    """It has the aspect ratio of the task, and no pixel is made up."""
    given = cropped(marks(slice(0, 10), slice(310, 320)), 30, (64, 128))
    assert given.init_image is not None
    assert np.array_equal(given.init_image.array, NOISE[0:80, 280:320])
    given = cropped(marks(slice(0, 10), slice(310, 320)), 30, (128, 64))
    assert given.init_image is not None
    assert np.array_equal(given.init_image.array, NOISE[0:40, 240:320])


def test_a_part_higher_than_the_image_continues_its_edges() -> None:
    """It is not distorted."""
    given = cropped(marks(slice(0, 200), slice(0, 300)), 0, (64, 64))
    assert given.init_image is not None
    assert given.mask is not None
    assert (given.init_image.width, given.init_image.height) == (308, 308)
    assert np.array_equal(given.init_image.array[54:254], NOISE[:, :308])
    assert not given.mask.array[:54].any()


def test_a_mask_of_another_size_marks_the_same_place() -> None:
    """In the proportions of the image."""
    small = cropped(SPOT[::10, ::10], 12, (64, 64))
    assert small.init_image is not None
    assert small.mask is not None
    assert np.array_equal(small.init_image.array, NOISE[48:92, 188:232])
    assert np.array_equal(small.mask.array[:, :, 0], SPOT[48:92, 188:232])


def test_controls_stand_for_the_whole_canvas() -> None:
    """The engine gets their part; beyond the canvas a photo continues its edges, and a map is black."""
    image = Pixels(array=NOISE)
    controls = tuple(
        Control(type=ControlType.CANNY, image=image, preprocess=photo) for photo in (False, True)
    )
    given = cropped(SPOT, 12, (64, 64), controls)
    for control in given.controls:
        assert np.array_equal(control.image.array, NOISE[48:92, 188:232])
    high = cropped(marks(slice(0, 200), slice(0, 300)), 0, (64, 64), controls)
    drawn, photo = (control.image.array for control in high.controls)
    assert np.array_equal(drawn[54:254], photo[54:254])
    assert not drawn[:54].any()
    assert np.array_equal(photo[0], photo[54])


def test_a_mask_without_a_mark_keeps_the_image() -> None:
    """All of it is given, and none of what is made is used."""
    task = ImageTask(
        prompt="",
        width=64,
        height=40,
        seeds=(1,),
        init_image=Pixels(array=NOISE),
        mask=Pixels(array=np.zeros((200, 320, 1), np.uint8)),
    )
    _, canvas = lay_out(task, pb.ImageTask(padding_mask_crop=8))
    assert canvas is not None
    made = canvas.paste(Pixels(array=np.zeros((40, 64, 3), np.uint8)))
    assert np.array_equal(made.array, NOISE)
