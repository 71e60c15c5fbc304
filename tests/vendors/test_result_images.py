"""Images that services send: decoded within a budget, and read as input images are."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL
from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors import images
from tests.artifacts.profiles import adobe_to_srgb, rgb_profile
from tests.artifacts.readers.png_files import write_png
from tests.server.calls import eventually

TASK = ImageTask(prompt="a lamp", width=8, height=8, seeds=(1,))
COLOR = np.array([200, 30, 60], np.uint8)


def file_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


async def load(data: bytes) -> NDArray[np.int_]:
    """The pixels of a result that is not of the task's size, all of which are equal."""
    media = await images.load_result("somebody", data, TASK)
    assert isinstance(media, Pixels)
    assert media.array.shape == (8, 8, 3)
    assert np.ptp(media.array, axis=(0, 1)).max() == 0
    levels: NDArray[np.int_] = media.array[0, 0].astype(np.int_)
    return levels


async def test_a_resized_result_is_read_as_an_input_image_is() -> None:
    """By its profile, on white, and in all of its bits."""
    plain = Image.new("RGB", (16, 16), tuple(COLOR.tolist()))
    profiled = await load(file_of(plain, icc_profile=rgb_profile()))
    assert np.abs(profiled - adobe_to_srgb(COLOR)).max() <= 1
    assert (await load(file_of(Image.new("RGBA", (16, 16))))).tolist() == [255] * 3
    wide = write_png(np.full((16, 16, 1), 128 * 257, np.uint16), 0, 16)
    assert (await load(wide)).tolist() == [128] * 3


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
async def test_a_result_of_the_right_size_is_passed_on(form: str) -> None:
    """Byte for byte, with what it is."""
    data = file_of(Image.new("RGB", (8, 8)), form)
    wanted = Encoded(media_type=f"image/{form.lower()}", data=data, width=8, height=8)
    assert await images.load_result("somebody", data, TASK) == wanted
    assert await images.load_file("somebody", data) == wanted


async def test_results_wait_for_memory() -> None:
    """Nothing is decoded while all of it is in use; previews are no exception."""
    data, budget = file_of(Image.new("RGB", (32, 32))), images._BUDGET
    async with budget.reserve(budget.max_bytes):
        loads = [
            asyncio.ensure_future(images.load_result("somebody", data, TASK)),
            asyncio.ensure_future(images.load_file("somebody", data)),
            asyncio.ensure_future(images.load_preview(data)),
        ]
        await eventually(lambda: len(budget._waiting) == len(loads))
        assert not any(load.done() for load in loads)
    assert all(await asyncio.gather(*loads))
    assert budget.reserved_bytes == 0
    assert budget.max_bytes >= images._MAX_PIXELS * DECODING_BYTES_PER_PIXEL


async def test_a_result_that_unfolds_to_more_than_the_limit_is_refused_by_its_header() -> None:
    """A canvas of 144 megapixels in a small file; as a preview it is left out."""
    data = file_of(Image.new("1", (12_000, 12_000)))
    assert len(data) < 2**20
    with pytest.raises(EngineFailedError, match="somebody sent an image of 12000 x 12000 pixels"):
        await images.load_result("somebody", data, TASK)
    assert await images.load_preview(data) is None
