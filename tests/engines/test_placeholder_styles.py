"""The styles and colours of the images that a sketch engine draws."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from atelier_engines.media import Pixels
from atelier_engines.sketch.config import SketchConfig
from atelier_engines.sketch.drawing import DrawnSource, describe_task
from atelier_engines.sketch.palette import Palette
from atelier_engines.task import ImageTask

TASK = ImageTask(prompt="", width=64, height=48, seeds=(7,), steps=4, guidance=2.5)
COLORS = ("#102030", "#C0ffEE")
RGB = {(16, 32, 48), (192, 255, 238)}


def draw(source: DrawnSource, task: ImageTask = TASK, seed: int = 7) -> np.ndarray:
    """The pixels of an image."""
    media = source.make_image(task, seed, None).media
    assert isinstance(media, Pixels)
    return media.array


def test_simple_is_one_colour_of_those_configured() -> None:
    """Chosen by seed; every one of them is used."""
    source = DrawnSource("simple", Palette.of(COLORS))
    images = [draw(source, seed=seed).reshape(-1, 3) for seed in range(20)]
    assert {len(np.unique(image, axis=0)) for image in images} == {1}
    assert {tuple(image[0].tolist()) for image in images} == RGB


def test_detailed_is_drawn_between_the_colours_alone() -> None:
    """The gradient and the edges of shapes mix them; the cubic filter of the gradient may round by one."""
    pixels = draw(DrawnSource("detailed", Palette.of(COLORS))).reshape(-1, 3).astype(int)
    assert len(np.unique(pixels, axis=0)) > 1
    low, high = np.min(list(RGB), axis=0), np.max(list(RGB), axis=0)
    assert (pixels >= low - 1).all()
    assert (pixels <= high + 1).all()


def test_debug_writes_the_decided_task_on_the_image() -> None:
    """Else it is the detailed one."""
    plain, debug = draw(DrawnSource("detailed")), draw(DrawnSource("debug"))
    assert (plain[:10] == debug[:10]).all()
    assert (plain != debug).any()
    assert describe_task(TASK, 7) == "64x48, seed 7, steps 4, guidance 2.5:"


@pytest.mark.parametrize(
    "settings",
    [
        {"colors": ["red"]},
        {"colors": ["#fff"]},
        {"placeholder_style": "fancy"},
        {"output_bytes": 9000, "colors": COLORS},
        {"image_directory": "/srv", "placeholder_style": "debug"},
    ],
)
def test_what_has_no_effect_is_refused(settings: dict[str, object]) -> None:
    """By the configuration."""
    with pytest.raises(ValidationError):
        SketchConfig.model_validate(settings)
