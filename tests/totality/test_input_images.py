"""What an engine gets of input images, here and behind another server."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from atelier_client import AsyncClient, Control
from atelier_client.enums import ControlType
from tests.totality.conftest import Serve
from tests.totality.test_decisions import last_task, recording


def file_of(image: Image.Image) -> bytes:
    """The image as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_transparent_parts_mean_what_they_are_in(serve: Serve, engine: str) -> None:
    """White paper of a picture, kept by a mask, nothing in a control map; the same file for all three."""
    image = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 64, 32))
    data, recorded = file_of(image), recording()
    control = Control(type=ControlType.CANNY, image=data)
    async with serve(recorded) as address, AsyncClient(address) as client:
        await client.generate(
            "a lamp", engine=engine, init_image=data, mask=data, controls=(control,)
        )
    task = last_task(recorded)
    assert task.init_image is not None
    assert task.mask is not None
    pictures = (task.init_image, task.mask, task.controls[0].image)
    assert [int(one.array[50].max()) for one in pictures] == [255, 0, 0]
    assert [int(one.array[10].min()) for one in pictures] == [255, 255, 255]


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_grey_of_16_bits_is_scaled_wherever_it_is_sent(serve: Serve, engine: str) -> None:
    """As picture, mask and control map."""
    levels = np.full((64, 64), 40 * 257, np.uint16)
    data, recorded = file_of(Image.fromarray(levels)), recording()
    control = Control(type=ControlType.CANNY, image=data)
    async with serve(recorded) as address, AsyncClient(address) as client:
        await client.generate(
            "a lamp", engine=engine, init_image=data, mask=data, controls=(control,)
        )
    task = last_task(recorded)
    assert task.init_image is not None
    assert task.mask is not None
    pictures = (task.init_image, task.mask, task.controls[0].image)
    assert [(int(one.array.min()), int(one.array.max())) for one in pictures] == [(40, 40)] * 3
