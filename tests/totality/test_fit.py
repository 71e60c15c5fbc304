"""Images of another aspect ratio are fitted in the way that the request states, here and behind another server."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atelier_client import AsyncClient, Control, FitMode
from atelier_client.enums import ControlType, Disposition
from atelier_client.errors import AtelierError
from atelier_client.results import Generation
from atelier_engines.media import Pixels
from atelier_engines.task import Control as EngineControl
from atelier_engines.task import ControlType as EngineControlType
from atelier_engines.task import Fit, ImageTask
from atelier_server.artifacts.fitting import fit_images, is_fitted
from tests.totality.conftest import Serve
from tests.totality.test_decisions import last_task, recording
from tests.totality.test_input_images import file_of

BARS = np.zeros((64, 320, 3), np.uint8)
"""Five times as wide as high: red, white in the middle 64 columns, blue."""
BARS[:, :128] = (255, 0, 0)
BARS[:, 128:192] = 255
BARS[:, 192:] = (0, 0, 255)
MARKED = np.zeros((64, 320), np.uint8)
MARKED[:, 160] = 255


def task(
    fit: Fit, *, width: int = 64, height: int = 64, image: NDArray[np.uint8] = BARS
) -> ImageTask:
    """A task with all kinds of images, of which none has its aspect ratio."""
    pixels = Pixels(array=image)
    return ImageTask(
        prompt="",
        width=width,
        height=height,
        seeds=(1,),
        init_image=pixels,
        mask=Pixels(array=MARKED[:, :, np.newaxis]),
        controls=tuple(
            EngineControl(type=EngineControlType.CANNY, image=pixels, preprocess=photo)
            for photo in (False, True)
        ),
        fit=fit,
    )


def images_of(fitted: ImageTask) -> list[NDArray[np.uint8]]:
    """Init image, mask, control map and photo."""
    assert fitted.init_image is not None
    assert fitted.mask is not None
    images = (fitted.init_image, fitted.mask, *(one.image for one in fitted.controls))
    return [image.array for image in images]


def test_cover_keeps_the_middle_as_it_is() -> None:
    """Nothing is resampled, and a column of the mask is where it was."""
    init, mask, control, photo = images_of(fit_images(task(Fit.COVER)))
    for image in (init, control, photo):
        assert np.array_equal(image, np.full((64, 64, 3), 255, np.uint8))
    assert np.flatnonzero(mask[0, :, 0]).tolist() == [32]


def test_contain_keeps_all_of_it() -> None:
    """Its edges go on around it, but black is around a control map; thin marks stay marked."""
    init, mask, control, photo = images_of(fit_images(task(Fit.CONTAIN)))
    assert {image.shape for image in (init, control, photo)} == {(64, 64, 3)}
    for image in (init, photo):
        assert np.array_equal(image[0], image[32])
    assert init[0, 0].tolist() == [255, 0, 0]
    assert init[63, 63].tolist() == [0, 0, 255]
    assert (control[0].max(), control[63].max(), control[32].max()) == (0, 0, 255)
    assert np.flatnonzero(mask[0, :, 0]).tolist() == [32]


def test_stretch_resizes_both_sides() -> None:
    """As the name says; a mark that is thinner than a pixel stays marked."""
    init, mask, *_ = images_of(fit_images(task(Fit.STRETCH)))
    assert (init[0, 10].tolist(), init[63, 50].tolist()) == ([255, 0, 0], [0, 0, 255])
    assert np.flatnonzero(mask[0, :, 0]).tolist() == [32]


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1), (7, 100), (640, 63), (513, 770)])
@pytest.mark.parametrize("wanted", [(64, 64), (512, 768), (320, 64)])
def test_what_is_fitted_stays_as_it_is(
    fit: Fit, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """Fitting twice, here and on another server, is fitting once; no size is lost."""
    width, height = size
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    once = fit_images(task(fit, width=wanted[0], height=wanted[1], image=image))
    again = fit_images(once)
    for one, two in zip(images_of(once), images_of(again), strict=True):
        assert one.size
        assert np.array_equal(one, two)
        assert is_fitted(Pixels(array=one), *wanted)


def noted(generation: Generation) -> list[tuple[Disposition, object]]:
    """What the receipt says of the fit."""
    assert generation.receipt is not None
    return [
        (one.disposition, one.value) for one in generation.receipt.parameters if one.name == "fit"
    ]


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_the_receipt_states_it_and_the_engine_gets_it(serve: Serve, engine: str) -> None:
    """The default too, where it changes an image; with nothing to fit it is ignored."""
    recorded = recording()
    bars, square = file_of(Image.fromarray(BARS)), file_of(Image.fromarray(BARS[:, :64]))
    control = Control(type=ControlType.CANNY, image=bars)
    async with serve(recorded) as address, AsyncClient(address) as client:

        async def run(**given: object) -> tuple[Generation, ImageTask]:
            made = await client.generate("a lamp", engine=engine, width=64, height=64, **given)  # type: ignore[call-overload]  # fields by name
            return made, last_task(recorded)

        made, found = await run(init_image=bars)
        assert noted(made) == [(Disposition.DEFAULTED, "cover")]
        assert found.init_image is not None
        assert found.init_image.array.min() == 255
        made, found = await run(init_image=bars, fit=FitMode.CONTAIN)
        assert noted(made) == [(Disposition.APPLIED, "contain")]
        assert found.init_image is not None
        assert found.init_image.array[0, 0].tolist() == [255, 0, 0]
        made, found = await run(controls=(control,), fit=FitMode.STRETCH)
        assert found.controls[0].image.array.shape == (64, 64, 3)
        made, found = await run(init_image=square)
        assert noted(made) == []
        made, _ = await run(fit=FitMode.CONTAIN)
        assert noted(made) == [(Disposition.IGNORED, None)]
        with pytest.raises(AtelierError, match="the task has no images"):
            await run(fit=FitMode.CONTAIN, strict=True)
