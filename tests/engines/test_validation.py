"""Tasks are held against capabilities exactly: what fits passes, all else is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier_engines import validation
from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_engines.conformance.tasks import audio_needing, images_needing
from atelier_engines.errors import EngineError, InvalidTaskError, UnsupportedError
from atelier_engines.media import Pixels
from atelier_engines.task import (
    AudioTask,
    Control,
    ControlType,
    ImageTask,
    Lora,
    Task,
    Upscale,
)

SIDE = IntegerRange(min=64, max=512, default=256, multiple_of=8)
IMAGE = ImageCapabilities(
    width=SIDE,
    height=SIDE,
    max_pixels=256 * 512,
    features=frozenset(ImageFeature),
    steps=IntegerRange(min=1, max=50, default=4),
    guidance=NumberRange(min=0.0, max=15.0, default=7.5),
    max_images=4,
    max_prompt_length=20,
    schedulers=("euler", "ddim"),
    control_types=(ControlType.CANNY,),
    max_controls=1,
    models=(Model(name="base"),),
    loras=("ink",),
    max_loras=2,
    upscalers=("sharp", "lanczos"),
)
AUDIO = AudioCapabilities(
    duration_seconds=NumberRange(min=0.5, max=30.0, default=5.0),
    sample_rates=(44100, 16000),
    channels=(2,),
    features=frozenset(AudioFeature),
    max_candidates=3,
)
CAN = Capabilities(
    description="Everything",
    image=IMAGE,
    audio=AUDIO,
    options_schema={"properties": {"ink": {}}, "additionalProperties": False},
)
PICTURE = ImageTask(prompt="a boat", width=64, height=64, seeds=(7,), steps=4, guidance=5.0)
SOUND = AudioTask(prompt="rain", duration_seconds=5.0, seed=7, sample_rate=44100, channels=2)
PIXELS = Pixels(array=np.zeros((64, 64, 3), np.uint8))


def refusals(task: Task, can: Capabilities = CAN) -> list[EngineError]:
    """Everything that is wrong with the task."""
    return list(validation.violations(can, task))


def test_a_task_within_the_limits_passes() -> None:
    """Nothing is refused without a reason."""
    validation.validate(CAN, PICTURE)
    validation.validate(CAN, SOUND)
    rich = replace(
        PICTURE,
        model="base",
        scheduler="ddim",
        init_image=PIXELS,
        mask=PIXELS,
        controls=(Control(type=ControlType.CANNY, image=PIXELS),),
        loras=(Lora(name="ink"),),
        options={"ink": "blue"},
        preview_interval=1,
        negative_prompt="fog",
    )
    validation.validate(CAN, rich)


@given(width=st.integers(-1000, 1000), height=st.integers(-1000, 1000))
def test_a_size_passes_exactly_if_it_lies_in_range_on_the_grid_and_within_the_pixels(
    width: int, height: int
) -> None:
    """No size slips through, none is refused in vain."""
    fits = all(64 <= side <= 512 and side % 8 == 0 for side in (width, height))
    fits = fits and width * height <= 256 * 512
    assert (not refusals(replace(PICTURE, width=width, height=height))) == fits


def test_max_pixels_is_met_to_the_pixel() -> None:
    """As many as allowed pass, one more does not."""
    for allowed, passes in ((64 * 64, True), (64 * 64 - 1, False)):
        tight = replace(CAN, image=replace(IMAGE, max_pixels=allowed))
        assert (not refusals(PICTURE, tight)) == passes


@given(st.floats())
def test_a_number_passes_exactly_if_it_lies_in_range(value: float) -> None:
    """Infinities and what is no number never pass."""
    assert (not refusals(replace(PICTURE, guidance=value))) == (0.0 <= value <= 15.0)
    assert (not refusals(replace(SOUND, duration_seconds=value))) == (0.5 <= value <= 30.0)
    strength = replace(PICTURE, init_image=PIXELS, strength=value)
    assert (not refusals(strength)) == (0.0 <= value <= 1.0)


@given(st.floats())
def test_a_picture_is_enlarged_exactly_by_more_than_one_and_up_to_eight_times(
    factor: float,
) -> None:
    """Infinities and what is no number never pass."""
    asked = replace(PICTURE, upscale=Upscale(factor=factor))
    assert (not refusals(asked)) == (1.0 < factor <= 8.0)


def test_an_enlarged_picture_has_bounded_sides_and_pixels() -> None:
    """To the pixel: 64 million of them, and 16383 along a side."""
    side = IntegerRange(min=1, max=10_000, default=64)
    can = replace(CAN, image=replace(IMAGE, width=side, height=side, max_pixels=10**8))
    for width, height, factor, passes in (
        (4000, 4000, 2.0, True),
        (4000, 4001, 2.0, False),
        (5461, 10, 3.0, True),
        (5462, 10, 3.0, False),
        (10, 5462, 3.0, False),
    ):
        asked = replace(PICTURE, width=width, height=height, upscale=Upscale(factor=factor))
        assert (not refusals(asked, can)) == passes
        assert passes or "upscale.factor" in str(refusals(asked, can)[0])


def test_an_upscaler_is_one_that_is_listed() -> None:
    """Or left open; the refusal names those there are."""
    for name in ("", "sharp", "lanczos"):
        assert not refusals(replace(PICTURE, upscale=Upscale(factor=2.0, model=name)))
    (refusal,) = refusals(replace(PICTURE, upscale=Upscale(factor=2.0, model="blunt")))
    assert isinstance(refusal, UnsupportedError)
    assert "sharp, lanczos" in str(refusal)


def test_an_engine_that_only_upscales_needs_a_picture_and_a_factor() -> None:
    """Words alone are for other engines, and so are pictures to be kept in size."""
    can = replace(CAN, image=replace(IMAGE, upscale_only=True))
    whole = replace(PICTURE, init_image=PIXELS, upscale=Upscale(factor=2.0))
    assert not refusals(whole, can)
    for task, lacking in (
        (replace(whole, init_image=None), "init_image"),
        (replace(whole, upscale=None), "upscale"),
    ):
        (refusal,) = refusals(task, can)
        assert isinstance(refusal, UnsupportedError)
        assert refusal.feature == lacking


@given(st.lists(st.integers(-(2**65), 2**65), max_size=6))
def test_seeds_pass_exactly_if_each_is_a_seed_and_they_are_not_too_many(seeds: list[int]) -> None:
    """One to max_images, each 0 to 2**63 - 1."""
    fits = 1 <= len(seeds) <= 4 and all(0 <= seed < 2**63 for seed in seeds)
    assert (not refusals(replace(PICTURE, seeds=tuple(seeds)))) == fits


@given(st.text(max_size=40))
def test_a_prompt_passes_exactly_if_it_is_short_enough(text: str) -> None:
    """Characters are counted, not bytes; the negative prompt alike."""
    fits = len(text) <= 20
    assert (not refusals(replace(PICTURE, prompt=text))) == fits
    assert (not refusals(replace(PICTURE, negative_prompt=text))) == fits


@pytest.mark.parametrize("feature", [f for f in ImageFeature if f is not ImageFeature.SEED])
def test_every_feature_of_pictures_is_refused_where_it_is_not_declared(
    feature: ImageFeature,
) -> None:
    """The refusal names the feature; with the feature declared it does not."""
    task = images_needing(IMAGE, PICTURE)[feature]
    lacking = replace(CAN, image=replace(IMAGE, features=IMAGE.features - {feature}))
    names = [
        error.feature for error in refusals(task, lacking) if isinstance(error, UnsupportedError)
    ]
    assert feature.name in names
    assert not any(
        isinstance(error, UnsupportedError) and error.feature == feature.name
        for error in refusals(task)
    )


@pytest.mark.parametrize("feature", audio_needing(SOUND))
def test_every_feature_of_sound_is_refused_where_it_is_not_declared(feature: AudioFeature) -> None:
    """The refusal names the feature."""
    task = audio_needing(SOUND)[feature]
    lacking = replace(CAN, audio=replace(AUDIO, features=AUDIO.features - {feature}))
    assert not refusals(task)
    with pytest.raises(UnsupportedError) as refused:
        validation.validate(lacking, task)
    assert refused.value.feature == feature.name


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (replace(PICTURE, width=100), "width must be a multiple of 8, not 100"),
        (replace(PICTURE, width=512, height=512), "at most 131072 pixels, not 262144"),
        (replace(PICTURE, steps=51), "steps must be 1 to 50, not 51"),
        (replace(PICTURE, seeds=(1, 2, 3, 4, 5)), "num_images must be at most 4, not 5"),
        (replace(PICTURE, steps=None), "steps is required: 1 to 50"),
        (replace(PICTURE, mask=PIXELS), "mask requires init_image"),
        (replace(PICTURE, loras=(Lora(name="ink"),) * 3), "loras must be at most 2, not 3"),
        (replace(PICTURE, options={"pen": 1}), "no option 'pen'; it has ink"),
        (replace(SOUND, candidates=4), "candidates must be at most 3, not 4"),
        (replace(SOUND, candidates=0), "candidates must be at least 1, not 0"),
        (replace(SOUND, duration_seconds=math.nan), "duration must be 0.5 to 30.0, not nan"),
    ],
)
def test_a_number_outside_its_limits_is_refused_with_what_to_change(task: Task, words: str) -> None:
    """The text holds the limit and the value."""
    with pytest.raises(InvalidTaskError) as refused:
        validation.validate(CAN, task)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (replace(PICTURE, model="bass"), "model must be base, not 'bass'"),
        (replace(PICTURE, scheduler="dpm"), "scheduler must be one of euler, ddim, not 'dpm'"),
        (replace(PICTURE, scheduler="DIM"), "not 'DIM'; did you mean 'ddim'?"),
        (replace(PICTURE, loras=(Lora(name="oil"),)), "loras must be ink, not 'oil'"),
        (
            replace(PICTURE, controls=(Control(type=ControlType.POSE, image=PIXELS),)),
            "does not support pose controls; it supports canny",
        ),
        (replace(SOUND, sample_rate=8000), "sample_rate must be one of 44100, 16000, not 8000"),
        (replace(SOUND, channels=1), "channels must be 2, not 1"),
        (replace(SOUND, model="any"), "model must be empty on this engine"),
        (replace(SOUND, steps=9), "does not support `steps`"),
    ],
)
def test_a_name_that_is_not_listed_is_refused_with_the_listed_ones(task: Task, words: str) -> None:
    """Whoever asked wrongly learns what to ask for."""
    with pytest.raises(UnsupportedError) as refused:
        validation.validate(CAN, task)
    assert words in str(refused.value)


def test_an_engine_without_pictures_or_without_sound_says_so() -> None:
    """The other kind of task is refused as a whole."""
    assert (
        str(refusals(PICTURE, replace(CAN, image=None))[0])
        == "this engine does not support image tasks"
    )
    assert (
        str(refusals(SOUND, replace(CAN, audio=None))[0])
        == "this engine does not support audio tasks"
    )


def test_missing_features_come_before_wrong_numbers() -> None:
    """A router that looks for another engine learns first what that engine must have."""
    lacking = replace(CAN, image=replace(IMAGE, features=frozenset()))
    found = refusals(replace(PICTURE, width=1, negative_prompt="fog"), lacking)
    assert [type(error) for error in found] == [UnsupportedError, InvalidTaskError]
