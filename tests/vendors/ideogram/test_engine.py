"""What an ideogram engine sends, and what becomes of everything that can go wrong."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
    respond_bytes,
)
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Dispatched, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.vendors.ideogram.sizes import SIZES, nearest_size
from tests.vendors.ideogram.asking import TASK, events_of, outputs, started
from tests.vendors.ideogram.stand_in import KEY, StandIn, drawn


def plain(width: int, height: int, value: int) -> Pixels:
    """A picture of one colour."""
    return Pixels(array=np.full((height, width, 3), value, np.uint8))


async def test_a_task_is_one_paid_request_and_its_picture_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """All that decides the picture is sent; the key stays with the service."""
    events = await events_of(vendor)
    (asked,) = vendor.paid
    assert asked.kind == "generate"
    assert asked.fields == {
        "prompt": "a lighthouse",
        "resolution": "1024x1024",
        "seed": 7,
        "rendering_speed": "DEFAULT",
        "magic_prompt": "OFF",
        "num_images": 1,
    }
    (output,) = outputs(events)
    assert isinstance(output.media, Encoded)
    assert output.media.data == drawn(asked)
    assert vendor.leaks == 0


async def test_before_anything_is_sent_it_is_stored_that_it_will_be(vendor: StandIn) -> None:
    """The service gives no ids, so a process that dies meanwhile must not send again."""
    async with started(vendor) as engine, aclosing(engine.run(TASK)) as events:
        assert await anext(events) == Stage(name="generate")
        dispatched = await anext(events)
        assert isinstance(dispatched, Dispatched)
        assert not vendor.paid
    with pytest.raises(EngineUncertainError, match="not sent again"):
        await events_of(vendor, replace(TASK, resume=dispatched.handle))
    assert not vendor.paid


async def test_several_pictures_are_several_requests_in_the_order_of_the_seeds(
    vendor: StandIn,
) -> None:
    """Progress counts pictures."""
    events = await events_of(vendor, replace(TASK, seeds=(3, 2**31 + 1, 5)))
    assert sorted(asked.fields["seed"] for asked in vendor.paid) == [1, 3, 5]
    assert [output.seed for output in outputs(events)] == [3, 2**31 + 1, 5]
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.index, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]


async def test_a_size_that_it_does_not_draw_is_made_from_the_nearest_shape(
    vendor: StandIn,
) -> None:
    """Scaled and cropped to the size asked for."""
    (output,) = outputs(await events_of(vendor, replace(TASK, width=1000, height=600)))
    assert vendor.paid[0].fields["resolution"] == "1280x768"
    assert isinstance(output.media, Pixels)
    assert output.media.array.shape == (600, 1000, 3)


def test_the_nearest_size_is_one_of_its_own() -> None:
    """Each is nearest to itself, and to the same shape in another size."""
    assert len(SIZES) == 69
    assert all(nearest_size(*size) == size for size in SIZES)
    assert nearest_size(520, 520) == (1024, 1024)


async def test_a_picture_to_start_from_is_remixed(vendor: StandIn) -> None:
    """It weighs what strength leaves of it."""
    task = replace(TASK, init_image=plain(40, 90, 7), strength=0.3, negative_prompt="fog")
    await events_of(vendor, task)
    (asked,) = vendor.paid
    assert asked.kind == "remix"
    assert asked.images["image"].size == (1024, 1024)
    assert (asked.fields["image_weight"], asked.fields["negative_prompt"]) == ("70", "fog")


@pytest.mark.parametrize(("strength", "weight"), [(0.0, "100"), (1.0, "1")])
async def test_the_weight_stays_within_its_range(
    vendor: StandIn, strength: float, weight: str
) -> None:
    """At both ends."""
    await events_of(vendor, replace(TASK, init_image=plain(64, 64, 7), strength=strength))
    assert vendor.paid[0].fields["image_weight"] == weight


async def test_a_mask_is_sent_black_where_it_is_repainted(vendor: StandIn) -> None:
    """The other way round than ours, and nothing between black and white."""
    mask = plain(1024, 1024, 0)
    mask.array[:512] = 200
    await events_of(vendor, replace(TASK, init_image=plain(64, 64, 9), mask=mask))
    (asked,) = vendor.paid
    assert asked.kind == "inpaint"
    sent = np.asarray(asked.images["mask"])
    assert (sent[:512] == 0).all()
    assert (sent[512:] == 255).all()


async def test_a_mask_with_a_negative_prompt_is_refused_before_anything_is_sent(
    vendor: StandIn,
) -> None:
    """The service takes none then."""
    task = replace(TASK, init_image=plain(8, 8, 9), mask=plain(8, 8, 9), negative_prompt="fog")
    with pytest.raises(InvalidTaskError, match="negative_prompt"):
        await events_of(vendor, task)


async def test_options_win_over_the_configuration(vendor: StandIn) -> None:
    """And only what was said is sent."""
    options = {"rendering_speed": "TURBO", "style_preset": "WOODBLOCK_PRINT"}
    await events_of(vendor, replace(TASK, options=options), rendering_speed="QUALITY")
    fields = vendor.paid[0].fields
    assert (fields["rendering_speed"], fields["style_preset"]) == ("TURBO", "WOODBLOCK_PRINT")
    assert "style_type" not in fields


async def test_a_full_service_is_asked_again_and_paid_once(vendor: StandIn) -> None:
    """What it refused for too many in flight was not begun."""
    busy = respond(429, {"error": "busy", "reject_reason": "inflight_limit"})
    vendor.orders.add(busy, busy, respond(503, "<html>"))
    assert outputs(await events_of(vendor))
    assert len(vendor.paid) == 1


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (respond(402, {"error": "x", "reject_reason": "daily_limit"}), EngineQuotaError, "x"),
        (respond(401, {"error": "bad key"}), EngineUnavailableError, "key"),
        (respond(422, {"error": f"unsafe {KEY}"}), ContentFilteredError, "unsafe …"),
        (respond(400, {"error": "bad resolution"}), InvalidTaskError, "bad resolution"),
        (respond(413), InvalidTaskError, "413"),
        (respond(502, "<html>oops"), EngineUncertainError, "not sent again"),
        (respond(504), EngineUncertainError, "not sent again"),
        (drop_connection, EngineUncertainError, "not sent again"),
        (hang, EngineUncertainError, "not sent again"),
        (drip, EngineUncertainError, "not sent again"),
        (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
        (respond(200, {"created": 1}), EngineUncertainError, "not sent again"),
    ],
    ids=range(12),
)
async def test_a_request_that_fails_is_not_repeated(
    vendor: StandIn, trouble: Handler, error: type[EngineError], says: str
) -> None:
    """What was refused says why; what may have been done is uncertain."""
    vendor.orders.add(trouble)
    with pytest.raises(error, match=says):
        await events_of(vendor, timeout_seconds=0.2)
    assert not vendor.paid, "the honest answer came to a second try"


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
async def test_an_answer_without_its_picture_is_told_apart(
    vendor: StandIn, data: list[dict[str, object]], error: type[EngineError]
) -> None:
    """Held back as unsafe is the prompt's fault; the rest is the service's."""
    vendor.data = data
    with pytest.raises(error):
        await events_of(vendor)
    assert len(vendor.paid) == 1


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (respond(403, "<Error>"), EngineFailedError),
        (respond(404), EngineFailedError),
        (respond_bytes(b"\x89PNG\r\n\x1a\n", "image/png"), EngineFailedError),
        (respond_bytes(b"<html>", "text/html"), EngineFailedError),
        (respond(503), EngineTimeoutError),
        (cut_short(b"png" * 999, "image/png"), EngineTimeoutError),
    ],
    ids=range(6),
)
async def test_a_picture_that_cannot_be_had_is_not_ordered_again(
    vendor: StandIn, trouble: Handler, error: type[EngineError]
) -> None:
    """It is paid for; a storage that is down for long allows no other engine to be paid too."""
    vendor.results.always = trouble
    with pytest.raises(error):
        await events_of(vendor)
    assert len(vendor.paid) == 1


async def test_leaving_closes_every_request_and_leaves_nothing_behind(vendor: StandIn) -> None:
    """No task goes on in the background."""
    vendor.orders.always = hang
    before = asyncio.all_tasks()
    async with started(vendor) as engine:
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
