"""What workers tell gateways about their engines, and what several of them can do together."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
    Price,
    PriceUnit,
)
from atelier_engines.task import ControlType
from atelier_server.config.load import load
from atelier_server.engines.creation import create_engine
from atelier_server.engines.offers import Load, Offer, decode_load, decode_offer, encode
from atelier_server.engines.shared_capabilities import (
    NothingInCommonError,
    find_common,
    list_differences,
)
from atelier_server.estimates.service_times import Measured, ServiceTimes, Work

SIDE = IntegerRange(min=64, max=512, default=512, multiple_of=8)
IMAGE = ImageCapabilities(
    width=SIDE,
    height=SIDE,
    max_pixels=2**18,
    features=frozenset({ImageFeature.SEED, ImageFeature.LORA}),
    steps=IntegerRange(min=1, max=50, default=20),
    guidance=NumberRange(min=0, max=10, default=7),
    control_types=(ControlType.CANNY,),
    models=(Model(name="one", digest="1"), Model(name="two")),
    loras=("oil", "ink"),
)
ENGINE = Capabilities(
    description="for tests",
    image=IMAGE,
    price=Price(amount=0.5, unit=PriceUnit.IMAGE),
    options_schema={"type": "object", "properties": {"x": {"type": "number", "minimum": 1}}},
    versions={"torch": "2"},
)


def test_what_is_told_is_what_is_understood() -> None:
    """Of every engine that this machine has by default, and of one with a value in most fields."""
    engines = [create_engine(each).capabilities for each in load(None).engines.values()]
    for capabilities in (ENGINE, *engines):
        offer = Offer(type="some", capabilities=capabilities, fallbacks=("other",), daily_budget=2)
        assert decode_offer(encode(offer)) == offer
    measured = Measured(kind="k", size=3, seconds=1.5, alone=1, age=2)
    told = Load(state=2, running=1, times=(measured,))
    assert decode_load(encode(told)) == told


def test_what_another_version_tells_is_understood_as_far_as_it_is_known() -> None:
    """A feature and a key that are not known are left out; what is missing has its default."""
    told = json.loads(encode(Offer(type="some", capabilities=ENGINE)))
    told["later"] = 1
    told["capabilities"]["image"]["features"].append("telepathy")
    told["capabilities"]["image"]["later"] = {"a": 1}
    del told["queue_limit"]
    assert decode_offer(json.dumps(told).encode()) == Offer(type="some", capabilities=ENGINE)


def test_workers_that_differ_can_do_together_what_each_can() -> None:
    """Features, names and ranges are those that all have; their slots add up, and the fields are named."""
    other = replace(
        ENGINE,
        concurrency=2,
        options_schema={"type": "object", "required": ["x"]},
        image=replace(
            IMAGE,
            width=IntegerRange(min=128, max=384, default=256, multiple_of=48),
            features=frozenset({ImageFeature.SEED, ImageFeature.INPAINTING}),
            guidance=None,
            max_pixels=2**16,
            models=(Model(name="two"), Model(name="one", digest="2")),
            loras=("ink", "oil", "chalk"),
        ),
    )
    common = find_common([ENGINE, other])
    image = common.image
    assert image is not None
    assert image.width == IntegerRange(min=144, max=384, default=384, multiple_of=48)
    assert image.features == {ImageFeature.SEED}
    assert (image.guidance, image.max_pixels) == (None, 2**16)
    assert [model.name for model in image.models] == ["one", "two"]
    assert image.loras == ("oil", "ink")
    assert common.concurrency == 3
    assert common.options_schema["allOf"] == [ENGINE.options_schema, other.options_schema]
    assert common.options_schema["required"] == ["x"]
    assert list_differences([ENGINE, other]) == [
        *("image.features", "image.guidance", "image.loras", "image.max_pixels"),
        *("image.models", "image.width", "options_schema"),
    ]
    assert find_common([ENGINE, ENGINE]) == replace(ENGINE, concurrency=2)


@pytest.mark.parametrize(
    "image",
    [
        None,
        replace(IMAGE, width=IntegerRange(min=1024, max=2048, default=1024)),
        replace(IMAGE, models=(Model(name="three"),)),
    ],
)
def test_workers_may_have_nothing_in_common(image: ImageCapabilities | None) -> None:
    """No size, no model, or no kind of task."""
    with pytest.raises(NothingInCommonError):
        find_common([ENGINE, replace(ENGINE, image=image)])


def test_times_of_several_workers_are_one_estimate() -> None:
    """Their ages count on from when they were told."""
    work = Work("k", 8)
    times = ServiceTimes()
    for seconds in (1.0, 2.0, 3.0):
        times = times.learn(work, seconds, at=100 + seconds)
    told = [replace(each, age=each.age + 10) for each in times.list_newest(105)]
    combined = ServiceTimes.combine(told, 1000)
    assert combined.estimate(work, 1000).expected == 2.0
    assert [each.age for each in combined.list_newest(1000)] == [14, 13, 12]
