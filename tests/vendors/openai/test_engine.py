"""What an openai engine asks through the SDK, and what becomes of everything that can go wrong."""

from __future__ import annotations

import asyncio
import base64
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from atelier_engines.conformance.fake_server import Handler, drip, drop_connection, hang, respond
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Dispatched, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.requests import count_previews
from tests.vendors.openai.asking import TASK, events_of, outputs, started
from tests.vendors.openai.stand_in import KEY, StandIn, drawn, failing


def plain(width: int, height: int, value: int) -> Pixels:
    """A picture of one colour."""
    return Pixels(array=np.full((height, width, 3), value, np.uint8))


async def test_a_task_is_one_paid_request_and_its_picture_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """Nothing is sent that was not said: servers of the same protocol know less."""
    events = await events_of(vendor)
    (asked,) = vendor.paid
    assert asked.kind == "generations"
    assert asked.fields == {
        "model": "gpt-image-2",
        "prompt": "a lighthouse",
        "n": "1",
        "size": "512x528",
        "output_format": "png",
        "stream": "false",
    }
    (output,) = outputs(events)
    assert isinstance(output.media, Encoded)
    assert output.media.data == base64.b64decode(drawn(asked.fields))
    assert not [event for event in events if isinstance(event, Step) and event.preview]


async def test_previews_are_streamed_when_asked_for(vendor: StandIn) -> None:
    """As steps of an unknown number, before the picture."""
    events = await events_of(vendor, replace(TASK, preview_interval=1))
    assert vendor.paid[0].fields["partial_images"] == "3"
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.preview is not None for step in steps] == [True, True, True, False]
    assert [(step.index, step.total) for step in steps] == [(n, 0) for n in (1, 2, 3, 4)]
    assert len(outputs(events)) == 1


@pytest.mark.parametrize(
    ("interval", "most", "previews"), [(0, 3, 0), (1, 3, 3), (2, 3, 1), (9, 3, 1), (1, 2, 2)]
)
def test_the_interval_decides_how_many_previews_are_paid_for(
    interval: int, most: int, previews: int
) -> None:
    """At least one if any, at most what is configured."""
    assert count_previews(interval, limit=most) == previews


async def test_a_stream_may_come_without_previews(vendor: StandIn) -> None:
    """The service may be faster than that."""
    vendor.partials = 0
    assert outputs(await events_of(vendor, replace(TASK, preview_interval=1)))


async def test_before_anything_is_sent_it_is_stored_that_it_will_be(vendor: StandIn) -> None:
    """The service gives no ids, so a process that dies meanwhile must not send again."""
    async with started(vendor) as engine, aclosing(engine.run(TASK)) as events:
        assert await anext(events) == Stage(name="generate")
        dispatched = await anext(events)
        assert isinstance(dispatched, Dispatched)
        assert not vendor.arrived
    with pytest.raises(EngineUncertainError, match="not sent again"):
        await events_of(vendor, replace(TASK, resume=dispatched.handle))
    assert not vendor.arrived


async def test_several_pictures_are_several_requests(vendor: StandIn) -> None:
    """Also with previews of all of them."""
    task = replace(TASK, seeds=(3, 4, 5), preview_interval=1)
    events = await events_of(vendor, task)
    assert len(vendor.paid) == 3
    assert [output.seed for output in outputs(events)] == [3, 4, 5]
    steps = [event.index for event in events if isinstance(event, Step)]
    assert steps == list(range(1, 13))


@pytest.mark.parametrize("interval", [0, 1])
async def test_a_picture_to_start_from_is_edited(vendor: StandIn, interval: int) -> None:
    """In the size of the result, streamed or not."""
    task = replace(TASK, init_image=plain(40, 90, 7), preview_interval=interval)
    assert outputs(await events_of(vendor, task))
    (asked,) = vendor.paid
    assert asked.kind == "edits"
    assert asked.images["image[]"].size == (512, 528)
    assert "mask" not in asked.images


async def test_a_mask_is_sent_as_transparency_where_it_is_repainted(vendor: StandIn) -> None:
    """Alpha 0 is repainted, 255 is kept."""
    mask = plain(512, 528, 0)
    mask.array[:100] = 200
    await events_of(vendor, replace(TASK, init_image=plain(512, 528, 9), mask=mask))
    sent = np.asarray(vendor.paid[0].images["mask"])
    assert (sent[:100, :, 3] == 0).all()
    assert (sent[100:, :, 3] == 255).all()


async def test_older_models_draw_the_nearest_shape_which_is_brought_to_size(
    vendor: StandIn,
) -> None:
    """Scaled and cropped."""
    task = replace(TASK, width=1200, height=800)
    (output,) = outputs(await events_of(vendor, task, model="gpt-image-1.5"))
    assert vendor.paid[0].fields["size"] == "1536x1024"
    assert isinstance(output.media, Pixels)
    assert output.media.array.shape == (800, 1200, 3)


async def test_a_shape_that_is_too_long_is_refused_with_what_would_do(vendor: StandIn) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidTaskError, match="at least a third of the other side: 683, not 512"):
        await events_of(vendor, replace(TASK, width=2048, height=512))
    assert not vendor.arrived


async def test_options_and_settings_reach_the_service(vendor: StandIn) -> None:
    """Options win."""
    task = replace(TASK, options={"quality": "low", "background": "opaque"})
    await events_of(vendor, task, quality="high", moderation="low", output_format="webp")
    fields = vendor.paid[0].fields
    assert (fields["quality"], fields["background"]) == ("low", "opaque")
    assert (fields["moderation"], fields["output_format"]) == ("low", "webp")


async def test_a_busy_service_is_asked_again_and_paid_once(vendor: StandIn) -> None:
    """As it wishes; what it refused for its rate was not begun."""
    vendor.orders.add(failing(429, "rate_limit_exceeded", retry_after="1"), respond(503, "<html>"))
    assert outputs(await events_of(vendor))
    assert (len(vendor.paid), vendor.arrived) == (1, 3)


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (failing(400, "moderation_blocked", "unsafe"), ContentFilteredError, "unsafe"),
        (failing(400, "content_policy_violation"), ContentFilteredError, "because"),
        (failing(400, "invalid_value", "bad size"), InvalidTaskError, "bad size"),
        (failing(403, "unverified", "verify first"), EngineUnavailableError, "verify first"),
        (failing(404, "model_not_found", "no model"), EngineFailedError, "no model"),
        (failing(429, "insufficient_quota"), EngineQuotaError, "because"),
        (failing(429, "project_spend_limit_exceeded"), EngineQuotaError, "because"),
        (failing(400, "billing_hard_limit_reached"), EngineQuotaError, "because"),
        (failing(429, "rate_limit_exceeded", retry_after="600"), EngineUnavailableError, "429"),
        (failing(500, "server_error"), EngineUncertainError, "not sent again"),
        (respond(502, "<html>"), EngineUncertainError, "not sent again"),
        (drop_connection, EngineUncertainError, "not sent again"),
        (hang, EngineUncertainError, "not sent again"),
        (drip, EngineUncertainError, "not sent again"),
        (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
        (respond(200, {"data": None}), EngineFailedError, "without an image"),
        (respond(200, {"data": []}), EngineFailedError, "without an image"),
        (respond(200, {"data": [{"url": "https://x"}]}), EngineFailedError, "without an image"),
    ],
    ids=range(18),
)
@pytest.mark.parametrize("interval", [0, 1], ids=["whole", "streamed"])
async def test_a_request_that_fails_is_not_repeated(
    vendor: StandIn, trouble: Handler, error: type[EngineError], says: str, interval: int
) -> None:
    """What was refused says why; what may have been done is uncertain."""
    vendor.orders.add(trouble)
    if interval and says == "without an image":
        error, says = EngineUncertainError, "without the image"
    with pytest.raises(error, match=says):
        await events_of(vendor, replace(TASK, preview_interval=interval), timeout_seconds=0.3)
    assert vendor.arrived == 1


BLOCKED = {"message": "unsafe", "type": "x", "code": "moderation_blocked", "param": None}
BROKEN = {"message": f"oops {KEY}", "type": "server_error", "code": None, "param": None}


@pytest.mark.parametrize(
    ("end", "error", "says"),
    [
        ([{"error": BLOCKED}], ContentFilteredError, "unsafe"),
        ([{"error": BROKEN}], EngineFailedError, "oops …"),
        ([], EngineUncertainError, "ended without the image"),
    ],
    ids=["blocked", "failed", "ended"],
)
async def test_a_stream_that_ends_badly_is_told_apart(
    vendor: StandIn, end: list[dict[str, object]], error: type[EngineError], says: str
) -> None:
    """After its previews."""
    vendor.end = end
    with pytest.raises(error, match=says):
        await events_of(vendor, replace(TASK, preview_interval=1))
    assert vendor.arrived == 1


@pytest.mark.parametrize("interval", [0, 1], ids=["whole", "streamed"])
@pytest.mark.parametrize("text", ["%%%", base64.b64encode(b"no picture").decode()])
async def test_a_picture_that_is_none_has_failed(vendor: StandIn, text: str, interval: int) -> None:
    """No base64, or not of a picture; previews alike are left out."""
    vendor.changed = {"b64_json": text, "data": [{"b64_json": text}]}
    with pytest.raises(EngineFailedError, match=r"(image|picture) that"):
        await events_of(vendor, replace(TASK, preview_interval=interval))


async def test_another_format_than_asked_for_is_given_as_what_it_is(vendor: StandIn) -> None:
    """The bytes decide."""
    text = drawn({"size": "512x528", "output_format": "webp"})
    vendor.changed = {"data": [{"b64_json": text}]}
    (output,) = outputs(await events_of(vendor))
    assert isinstance(output.media, Encoded)
    assert output.media.media_type == "image/webp"


async def test_leaving_is_seen_by_the_service(vendor: StandIn) -> None:
    """The connections are closed, and no task goes on in the background."""
    vendor.orders.always = hang
    before = asyncio.all_tasks()
    async with started(vendor) as engine:
        run = engine.run(replace(TASK, seeds=(1, 2)))
        await anext(run)
        await anext(run)
        waiting = asyncio.ensure_future(anext(run))
        while vendor.arrived < 2:  # noqa: ASYNC110 (it arrives in another thread)
            await asyncio.sleep(0.005)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await run.aclose()
        assert asyncio.all_tasks() == before
        while vendor.left < 2:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.005)


async def test_its_check_asks_for_the_model(vendor: StandIn) -> None:
    """A model that is not there can't serve."""
    async with started(vendor) as engine:
        await engine.check()
    async with started(vendor, model="gpt-image-9") as engine:
        with pytest.raises(EngineFailedError, match="no model gpt-image-9"):
            await engine.check()


async def test_the_key_shows_in_no_message(vendor: StandIn) -> None:
    """Even when the service repeats it."""
    with pytest.raises(EngineUnavailableError, match="Incorrect API key: …") as error:
        await events_of(vendor, api_key="sk-some-wrong-key")
    assert "sk-some" not in str(error.value)
    assert KEY not in repr(OpenaiConfig.model_validate({"api_key": KEY}))


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-1", ""])
def test_retired_models_are_refused_at_once(model: str) -> None:
    """Not when the first task comes."""
    with pytest.raises(ValidationError):
        OpenaiConfig.model_validate({"api_key": KEY, "model": model})
