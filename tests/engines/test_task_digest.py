"""Tasks have the same digest exactly if they make the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
    Reproducibility,
)
from atelier_engines.media import Pixels, Samples
from atelier_engines.task import (
    JSON,
    AudioTask,
    Control,
    ControlType,
    Fit,
    ImageTask,
    Lora,
    ResourceProfile,
    SafetyMode,
    Task,
    Upscale,
)
from atelier_engines.wrappers.task_digest import digest, input_bytes


def pixels(value: int = 1, shape: tuple[int, int, int] = (4, 6, 3)) -> Pixels:
    """A plain picture."""
    return Pixels(array=np.full(shape, value, np.uint8))


def samples(value: float = 0.5, shape: tuple[int, int] = (6, 2), rate: int = 8000) -> Samples:
    """A constant."""
    return Samples(array=np.full(shape, value, np.float32), sample_rate=rate)


SIDE = IntegerRange(min=16, max=64, default=64)
IMAGE = ImageCapabilities(
    width=SIDE,
    height=SIDE,
    max_pixels=64 * 64,
    features=frozenset({ImageFeature.SEED}),
    models=(Model(name="base", digest="a"),),
)
AUDIO = AudioCapabilities(
    duration_seconds=NumberRange(min=1, max=9, default=1),
    sample_rates=(8000,),
    channels=(1,),
    features=frozenset({AudioFeature.SEED}),
)
CAN = Capabilities(
    description="It",
    image=IMAGE,
    audio=AUDIO,
    versions={"numpy": "1"},
    reproducibility=Reproducibility.BIT_EXACT,
)
CONTROL = Control(type=ControlType.CANNY, image=pixels())
PICTURE = ImageTask(
    prompt="a boat",
    width=64,
    height=64,
    seeds=(1, 2),
    steps=4,
    guidance=5.0,
    init_image=pixels(),
    mask=pixels(),
    controls=(CONTROL,),
    loras=(Lora(name="ink"), Lora(name="oil")),
    upscale=Upscale(factor=2.0),
    options={"a": 1, "b": [1, {"c": None}]},
)
SOUND = AudioTask(
    prompt="rain",
    duration_seconds=1.0,
    seed=1,
    sample_rate=8000,
    channels=1,
    init_audio=samples(),
    steps=4,
    guidance=5.0,
    options={"a": 1, "c": 2},
)

OTHERS: dict[str, tuple[object, ...]] = {
    "prompt": ("a boa", "a boat "),
    "width": (32,),
    "height": (32,),
    "seeds": ((1,), (2, 1), (1, 2, 3)),
    "steps": (5, None),
    "guidance": (5.5, None),
    "negative_prompt": ("fog",),
    "model": ("base",),
    "scheduler": ("euler",),
    "init_image": (None, pixels(2), pixels(1, (6, 4, 3)), pixels(1, (4, 6, 1))),
    "strength": (0.5,),
    "init_audio": (None, samples(0.25), samples(0.5, (12, 1)), samples(rate=9000)),
    "continuation": (True,),
    "mask": (None, pixels(2)),
    "controls": (
        (),
        (CONTROL, CONTROL),
        (replace(CONTROL, type=ControlType.DEPTH),),
        (replace(CONTROL, image=pixels(2)),),
        (replace(CONTROL, preprocess=True),),
        (replace(CONTROL, strength=0.5),),
        (replace(CONTROL, start=0.1),),
        (replace(CONTROL, end=0.9),),
    ),
    "loras": (
        (),
        (Lora(name="oil"), Lora(name="ink")),
        (Lora(name="ink"), Lora(name="oil", weight=0.5)),
    ),
    "embeddings": (("boat",),),
    "fit": (Fit.CONTAIN, Fit.STRETCH),
    "clip_skip": (1, 2),
    "upscale": (None, Upscale(factor=3.0), Upscale(factor=2.0, model="big")),
    "resource_profile": (ResourceProfile.SPEED, ResourceProfile.MEMORY),
    "safety_mode": (SafetyMode.OFF, SafetyMode.FLAG),
    "options": ({}, {"a": "1", "b": [1, {"c": None}]}, {"a": 1, "b": [1, {"c": False}]}),
    "duration_seconds": (2.0,),
    "seed": (2,),
    "sample_rate": (16000,),
    "channels": (2,),
    "candidates": (2,),
    "seamless_loop": (True,),
    "loudness_lufs": (-16.0,),
    "reuse": (True,),
}
"""Other values for each field that has an effect."""
WITHOUT_EFFECT = {"preview_interval": 3, "batch": True, "resume": "handle"}


def variations(task: Task) -> Iterator[Task]:
    """The task, and all that differ in one field that has an effect."""
    yield task
    for field in fields(task):
        if field.name not in WITHOUT_EFFECT:
            for value in OTHERS[field.name]:
                yield replace(task, **{field.name: value})  # type: ignore[arg-type]  # fields by name


def test_every_field_that_has_an_effect_counts() -> None:
    """Also those that are added one day: without other values for them this test fails."""
    tasks = [*variations(PICTURE), *variations(SOUND)]
    assert len({digest(task, CAN, "it") for task in tasks}) == len(tasks)


@pytest.mark.parametrize("task", [PICTURE, SOUND], ids=["picture", "sound"])
def test_equal_tasks_are_equal_whatever_they_are_made_of(task: Task) -> None:
    """Options in another order, arrays that lie otherwise in memory, previews, a priority, a handle to resume."""
    same = replace(task, options=dict(reversed(list(task.options.items()))))
    if isinstance(same, ImageTask):
        turned = Pixels(array=np.full((6, 4, 3), 1, np.uint8).transpose(1, 0, 2))
        same = replace(same, init_image=turned, preview_interval=3)
    assert digest(replace(same, resume="handle", batch=True), CAN, "it") == digest(task, CAN, "it")


def test_what_works_on_it_counts() -> None:
    """Name, versions, weights and how well it repeats."""
    others = (
        replace(CAN, versions={"numpy": "2"}),
        replace(CAN, reproducibility=Reproducibility.SAME_ENGINE),
        replace(CAN, image=replace(IMAGE, models=(Model(name="base", digest="b"),))),
    )
    digests = {digest(PICTURE, can, "it") for can in (CAN, *others)}
    assert len(digests | {digest(PICTURE, CAN, "that")}) == 5


def test_seeds_without_effect_do_not_count_but_their_number_does() -> None:
    """On engines that do not claim them."""
    can = replace(
        CAN,
        image=replace(IMAGE, features=frozenset()),
        audio=replace(AUDIO, features=frozenset()),
    )
    pairs = [digest(replace(PICTURE, seeds=seeds), can, "it") for seeds in ((1, 2), (8, 9), (1,))]
    assert pairs[0] == pairs[1] != pairs[2]
    assert digest(SOUND, can, "it") == digest(replace(SOUND, seed=2), can, "it")


NAMES: tuple[JSON, ...] = (
    ["ab", "c"],
    ["a", "bc"],
    ["astr b", "c"],
    ["a", "bstr c"],
    [1, 2],
    [12],
    ["1", 2],
    [[1], 2],
    [[1, 2]],
    [1, [2]],
)
"""Lists that would be the same if nothing told where an item ends."""


def test_neighbours_do_not_run_into_each_other() -> None:
    """A letter that moves to the next field or item makes another task."""
    tasks = [
        replace(PICTURE, prompt=prompt, negative_prompt=negative, options={"names": names})
        for prompt, negative in (("ab", "c"), ("a", "bc"))
        for names in NAMES
    ]
    assert len({digest(task, CAN, "it") for task in tasks}) == len(tasks)


def test_the_pictures_to_read_are_measured() -> None:
    """All that come along: start, mask, controls."""
    assert input_bytes(PICTURE) == 3 * 4 * 6 * 3
    assert input_bytes(replace(PICTURE, init_image=None, mask=None, controls=())) == 0
    assert input_bytes(SOUND) == 6 * 2 * 4
    assert input_bytes(replace(SOUND, init_audio=None)) == 0
