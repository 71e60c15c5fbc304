"""What an ideogram engine sends, and the failures that are specific to Ideogram."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from atelier_engines.conformance.fake_server import Handler, cut_short, drip, hang, respond
from atelier_engines.conformance.remote_service import collect_events, collect_outputs, run_engine
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Output
from atelier_engines.media import Pixels
from atelier_engines.vendors.ideogram.sizes import SIZES, nearest_size
from tests.vendors.calls import outputs, plain, steps
from tests.vendors.ideogram.stand_in import KEY, TASK, StandIn, generated


async def test_a_task_is_one_paid_request_and_its_image_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """Every parameter of the image is sent; the API key is sent to the service alone."""
    events = await collect_events(vendor)
    (request,) = vendor.paid
    assert request.kind == "generate"
    assert request.fields == {
        "prompt": "a lighthouse",
        "resolution": "1024x1024",
        "seed": 7,
        "rendering_speed": "DEFAULT",
        "magic_prompt": "OFF",
        "num_images": 1,
    }
    (image,) = outputs(events)
    assert image.data == generated(request)
    assert vendor.leaks == 0


async def test_several_images_are_several_requests_in_the_order_of_the_seeds(
    vendor: StandIn,
) -> None:
    """Steps count images."""
    events = await collect_events(vendor, replace(TASK, seeds=(3, 2**31 - 1, 5)))
    assert sorted(paid.fields["seed"] for paid in vendor.paid) == [3, 5, 2**31 - 1]
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 2**31 - 1, 5]
    assert steps(events) == [(1, 3), (2, 3), (3, 3)]


async def test_an_unsupported_size_is_generated_in_the_nearest_aspect_ratio(
    vendor: StandIn,
) -> None:
    """The result is scaled and cropped to the size of the task."""
    (output,) = await collect_outputs(vendor, replace(TASK, width=1000, height=600))
    assert vendor.paid[0].fields["resolution"] == "1280x768"
    assert isinstance(output.media, Pixels)
    assert output.media.array.shape == (600, 1000, 3)


def test_the_nearest_size_is_a_supported_one() -> None:
    """Each is nearest to itself; a square to the square one."""
    assert len(SIZES) == 69
    assert all(nearest_size(*size) == size for size in SIZES)
    assert nearest_size(520, 520) == (1024, 1024)


async def test_an_init_image_is_remixed(vendor: StandIn) -> None:
    """Its weight is 1 - strength."""
    task = replace(TASK, init_image=plain(40, 90, 7), strength=0.3, negative_prompt="fog")
    await collect_events(vendor, task)
    (request,) = vendor.paid
    assert request.kind == "remix"
    assert request.images["image"].size == (1024, 1024)
    assert (request.fields["image_weight"], request.fields["negative_prompt"]) == ("70", "fog")


@pytest.mark.parametrize(("strength", "weight"), [(0.0, "100"), (1.0, "1")])
async def test_the_weight_stays_within_its_range(
    vendor: StandIn, strength: float, weight: str
) -> None:
    """At both ends."""
    await collect_events(vendor, replace(TASK, init_image=plain(64, 64, 7), strength=strength))
    assert vendor.paid[0].fields["image_weight"] == weight


async def test_a_mask_is_sent_black_where_to_inpaint(vendor: StandIn) -> None:
    """Inverted, and without values between black and white."""
    mask = plain(1024, 1024, 0)
    mask.array[:512] = 200
    await collect_events(vendor, replace(TASK, init_image=plain(64, 64, 9), mask=mask))
    (request,) = vendor.paid
    assert request.kind == "inpaint"
    sent = np.asarray(request.images["mask"])
    assert (sent[:512] == 0).all()
    assert (sent[512:] == 255).all()


async def test_a_mask_with_a_negative_prompt_is_refused_before_anything_is_sent(
    vendor: StandIn,
) -> None:
    """The service does not support both together."""
    task = replace(TASK, init_image=plain(8, 8, 9), mask=plain(8, 8, 9), negative_prompt="fog")
    with pytest.raises(InvalidTaskError, match="negative_prompt"):
        await collect_events(vendor, task)


async def test_options_win_over_the_configuration(vendor: StandIn) -> None:
    """Only options that are set are sent."""
    options = {"rendering_speed": "TURBO", "style_preset": "WOODBLOCK_PRINT"}
    await collect_events(vendor, replace(TASK, options=options), rendering_speed="QUALITY")
    fields = vendor.paid[0].fields
    assert (fields["rendering_speed"], fields["style_preset"]) == ("TURBO", "WOODBLOCK_PRINT")
    assert "style_type" not in fields


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (respond(402, {"error": "x", "reject_reason": "daily_limit"}), EngineQuotaError, "x"),
        (respond(422, {"error": f"unsafe {KEY}"}), ContentFilteredError, "unsafe …"),
        (hang, EngineUncertainError, "not sent again"),
        (drip, EngineUncertainError, "not sent again"),
        (respond(200, {"created": 1}), EngineUncertainError, "not sent again"),
    ],
    ids=["quota", "unsafe", "hangs", "drips", "no-data"],
)
async def test_a_request_that_fails_is_not_repeated(
    vendor: StandIn, response: Handler, error: type[EngineError], message: str
) -> None:
    """A rejection says why; what may have been done is uncertain."""
    vendor.submits.add(response)
    with pytest.raises(error, match=message):
        await collect_events(vendor, timeout_seconds=0.2)
    assert not vendor.paid, "the request was sent again"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([{"url": None, "is_image_safe": False}], ContentFilteredError),
        ([{"url": "", "is_image_safe": True}], EngineFailedError),
        ([], EngineFailedError),
        ([{"url": "ftp://x/y"}], EngineFailedError),
    ],
    ids=["unsafe", "nowhere", "none", "no-http"],
)
async def test_a_response_without_an_image_has_its_error(
    vendor: StandIn, data: list[dict[str, object]], error: type[EngineError]
) -> None:
    """An unsafe image is a fault of the prompt, the rest is a fault of the service."""
    vendor.data = data
    with pytest.raises(error):
        await collect_events(vendor)
    assert len(vendor.paid) == 1


async def test_a_download_that_always_breaks_lets_no_other_engine_be_paid(vendor: StandIn) -> None:
    """The image is generated and billed, and not requested again."""
    vendor.downloads.always = cut_short(b"png" * 999, "image/png")
    with pytest.raises(EngineTimeoutError):
        await collect_events(vendor)
    assert vendor.accepted == 1


async def test_closing_the_task_closes_every_request(vendor: StandIn) -> None:
    """No asyncio task is left running."""
    vendor.submits.always = hang
    before = asyncio.all_tasks()
    async with run_engine(vendor) as engine:
        run = engine.run(replace(TASK, seeds=(1, 2)))
        await anext(run)
        await anext(run)
        waiting = asyncio.ensure_future(anext(run))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await run.aclose()
    assert asyncio.all_tasks() == before
    assert not vendor.paid
