"""An aspect ratio becomes a size that the engine makes."""

from __future__ import annotations

from typing import Any

import pytest

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.task_pb2 import ImageTask
from atelier_engines.capabilities import ImageCapabilities, IntegerRange
from atelier_engines.task import ImageTask as EngineTask
from atelier_engines.vendors.bfl.capabilities import build_capabilities
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.models import ASPECT_RATIOS
from atelier_engines.vendors.bfl.payloads import build_payload
from atelier_engines.vendors.ideogram.sizes import nearest_size
from atelier_server.admission.aspect_ratios import choose_side, choose_sides, parse_ratio
from tests.server.calls import Stub, dispositions, receipt_of, refusal

GRID = IntegerRange(min=256, max=2048, default=1024, multiple_of=8)
SMALL = IntegerRange(min=64, max=2048, default=128, multiple_of=8)
TWO = IntegerRange(min=1024, max=1536, default=1024, allowed_values=(1024, 1536))


def request(**task: Any) -> pb.GenerateRequest:  # noqa: ANN401 (fields of a task)
    """A request of one step at the engine that draws by itself."""
    return pb.GenerateRequest(image=ImageTask(prompt="a lamp", steps=1, **task))


def capabilities(side: IntegerRange, max_pixels: int = 2**22) -> ImageCapabilities:
    """An engine whose width and height have that range."""
    return ImageCapabilities(width=side, height=side, max_pixels=max_pixels)


@pytest.mark.parametrize(
    ("side", "ratio", "size"),
    [
        (GRID, "16:9", (1368, 768)),
        (GRID, "1:1", (1024, 1024)),
        (GRID, "2.39:1", (1584, 664)),
        (GRID, "8:1", (2048, 256)),
        (SMALL, "9:16", (96, 168)),
        (TWO, "2:3", (1024, 1536)),
    ],
)
def test_sizes_are_near_the_ratio_and_the_usual_pixels(
    side: IntegerRange, ratio: str, size: tuple[int, int]
) -> None:
    """Both within the limits of the engine, and on its grid."""
    pixels = side.default**2
    assert choose_sides(capabilities(side), parse_ratio(ratio), pixels) == size


def test_a_side_is_the_nearest_that_the_engine_makes() -> None:
    """Of those that it lists, else on its grid within its limits."""
    assert [choose_side(TWO, side) for side in (900, 1279, 1281, 4000)] == [1024, 1024, 1536, 1536]
    assert [choose_side(GRID, side) for side in (9, 643.9, 644.1, 9000)] == [256, 640, 648, 2048]
    uneven = IntegerRange(min=100, max=1000, default=512, multiple_of=16)
    assert [choose_side(uneven, side) for side in (9, 9000)] == [112, 992]


def test_a_size_has_no_more_pixels_than_the_engine_makes() -> None:
    """Where its usual size has nearly as many, or the size of a style far more."""
    width, height = choose_sides(capabilities(GRID, 1024 * 1024), parse_ratio("16:9"), 1024 * 1024)
    assert width * height <= 1024 * 1024
    assert width / height == pytest.approx(16 / 9, rel=0.01)
    assert choose_sides(capabilities(GRID, 512**2), parse_ratio("16:9"), 1024**2) == (680, 384)


def test_a_long_size_has_the_pixels_that_its_short_side_needs() -> None:
    """More than usual, where an image of the usual number would be too low."""
    assert choose_sides(capabilities(GRID), parse_ratio("8:1"), 512**2) == (2048, 256)


def test_a_size_a_fifth_off_has_another_ratio() -> None:
    """Rounding to a grid is no more than a tenth."""
    assert parse_ratio("5:4").is_near(1320, 1000)
    assert not parse_ratio("5:4").is_near(1500, 1000)
    assert not parse_ratio("5:4").is_near(1000, 1000)


@pytest.mark.parametrize(
    "ratio", ["21:9", "16:9", "3:2", "4:3", "1:1", "3:4", "2:3", "9:16", "9:21"]
)
def test_a_service_with_its_own_ratios_is_asked_for_that_ratio(ratio: str) -> None:
    """Each one that Black Forest Labs lists, and near it at Ideogram, which lists sizes."""
    config = BflConfig(api_key="k", model="flux-kontext-pro")
    image = build_capabilities(config).image
    assert image is not None
    assert len(ASPECT_RATIOS) == 9
    parsed = parse_ratio(ratio)
    width, height = choose_sides(image, parsed, image.width.default * image.height.default)
    task = EngineTask(prompt="a lamp", width=width, height=height, seeds=(1,))
    assert build_payload(task, config).body["aspect_ratio"] == ratio
    assert parsed.is_near(*nearest_size(width, height))


async def test_the_receipt_and_the_plan_show_the_size(stub: Stub) -> None:
    """With where it comes from; the picture has it."""
    asked = request(aspect_ratio="16:9")
    made = (await stub.Generate(asked)).generation
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=asked))
    receipt = receipt_of(made)
    assert dispositions(made)["aspect_ratio"] == "applied"
    assert receipt["aspect_ratio"].value.string_value == "16:9"
    size = (receipt["width"].value.number_value, receipt["height"].value.number_value)
    assert size == (
        made.outputs[0].artifact.image_size.width,
        made.outputs[0].artifact.image_size.height,
    )
    assert size[0] / size[1] == pytest.approx(16 / 9, rel=0.01)
    assert "aspect_ratio 16:9" in receipt["width"].explanation
    planned = {one.name: one.value.number_value for one in plan.parameters}
    assert (planned["width"], planned["height"]) == size


@pytest.mark.parametrize(
    ("given", "size"), [({"width": 96}, (96, 72)), ({"height": 96}, (128, 96))]
)
async def test_one_side_and_the_ratio_give_the_other(
    stub: Stub, given: dict[str, int], size: tuple[int, int]
) -> None:
    """On the grid of the engine."""
    made = (await stub.Generate(request(aspect_ratio="4:3", **given))).generation
    picture = made.outputs[0].artifact.image_size
    assert (picture.width, picture.height) == size
    (name,) = given
    assert dispositions(made)[name] == "applied"


@pytest.mark.parametrize(
    ("task", "field", "words"),
    [
        ({"aspect_ratio": "wide"}, "image.aspect_ratio", "16:9"),
        ({"aspect_ratio": "0:1"}, "image.aspect_ratio", "16:9"),
        ({"aspect_ratio": "1:1", "width": 64, "height": 64}, "image", "omit one"),
        ({"aspect_ratio": "9000:1"}, "image.aspect_ratio", "nearest size"),
        ({"aspect_ratio": "1:100", "width": 512}, "image.aspect_ratio", "nearest size"),
    ],
)
async def test_what_is_no_ratio_is_refused(
    stub: Stub, task: dict[str, Any], field: str, words: str
) -> None:
    """By name, and with what to change."""
    refused = await refusal(stub.Generate(request(**task)))
    assert set(refused.fields) == {field}
    assert words in refused.message
