"""What an openai engine sends through the SDK, and the failures that are specific to OpenAI."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import numpy as np
import pytest

from atelier_engines.conformance.fake_server import Handler, drip, drop_connection, hang, respond
from atelier_engines.conformance.remote_service import collect_events, collect_outputs, run_engine
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Output, Step
from atelier_engines.media import Pixels
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.requests import count_previews
from tests.vendors.calls import noise, outputs, plain, steps
from tests.vendors.openai.stand_in import KEY, TASK, StandIn, failing, generated


async def test_a_task_is_one_paid_request_and_its_image_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """Only parameters that are set are sent: servers with the same API may not know others."""
    events = await collect_events(vendor)
    (request,) = vendor.paid
    assert request.kind == "generations"
    assert request.fields == {
        "model": "gpt-image-2",
        "prompt": "a lighthouse",
        "n": "1",
        "size": "768x864",
        "output_format": "png",
        "stream": "false",
    }
    (image,) = outputs(events)
    assert image.data == base64.b64decode(generated(request.fields))
    assert not [event for event in events if isinstance(event, Step) and event.preview]


async def test_previews_are_streamed_when_asked_for(vendor: StandIn) -> None:
    """As steps without a total, before the image."""
    events = await collect_events(vendor, replace(TASK, preview_interval=1))
    assert vendor.paid[0].fields["partial_images"] == "3"
    previews = [event.preview for event in events if isinstance(event, Step)]
    assert [preview is not None for preview in previews] == [True, True, True, False]
    assert steps(events) == [(n, 0) for n in (1, 2, 3, 4)]
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
    assert outputs(await collect_events(vendor, replace(TASK, preview_interval=1)))


async def test_several_images_are_several_requests(vendor: StandIn) -> None:
    """Also with previews of all of them."""
    task = replace(TASK, seeds=(3, 4, 5), preview_interval=1)
    events = await collect_events(vendor, task)
    assert len(vendor.paid) == 3
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 4, 5]
    assert steps(events) == [(n, 0) for n in range(1, 13)]


@pytest.mark.parametrize("interval", [0, 1])
async def test_an_init_image_is_edited(vendor: StandIn, interval: int) -> None:
    """In the size of the result, streamed or not."""
    task = replace(TASK, init_image=plain(40, 90, 7), preview_interval=interval)
    assert outputs(await collect_events(vendor, task))
    (request,) = vendor.paid
    assert request.kind == "edits"
    assert request.images["image[]"].image.size == (768, 864)
    assert "mask" not in request.images


async def test_a_mask_is_sent_as_transparency_where_to_inpaint(vendor: StandIn) -> None:
    """Alpha 0 is inpainted, 255 is kept."""
    mask = plain(768, 864, 0)
    mask.array[:100] = 200
    await collect_events(vendor, replace(TASK, init_image=plain(768, 864, 9), mask=mask))
    sent = np.asarray(vendor.paid[0].images["mask"].image)
    assert (sent[:100, :, 3] == 0).all()
    assert (sent[100:, :, 3] == 255).all()


async def test_a_mask_has_one_colour_and_stays_within_the_limit_of_the_service(
    vendor: StandIn,
) -> None:
    """However detailed the image is: a copy of this one with an alpha channel would have 4.7 MB, of a 4K one 20."""
    task = replace(TASK, width=1536, height=1024, init_image=noise(1536, 1024))
    dots = Pixels(array=np.where(noise(1536, 1024).array[:, :, :1] < 128, 255, 0).astype(np.uint8))
    await collect_events(vendor, replace(task, mask=dots))
    sent = vendor.paid[0].images["mask"]
    assert sent.num_bytes < 4_000_000
    pixels = np.asarray(sent.image)
    assert not pixels[:, :, :3].any()
    assert (pixels[:, :, 3] == 255 - dots.array[:, :, 0]).all()


async def test_a_size_below_the_minimum_is_generated_larger(vendor: StandIn) -> None:
    """With 655,360 pixels, which the service demands, and scaled down to what was asked for."""
    (output,) = await collect_outputs(vendor, replace(TASK, width=512, height=768))
    assert vendor.paid[0].fields["size"] == "672x992"
    assert isinstance(output.media, Pixels)
    assert output.media.array.shape == (768, 512, 3)


async def test_older_models_generate_the_nearest_size_which_is_resized(
    vendor: StandIn,
) -> None:
    """Scaled and cropped."""
    task = replace(TASK, width=1200, height=800)
    (output,) = await collect_outputs(vendor, task, model="gpt-image-1.5")
    assert vendor.paid[0].fields["size"] == "1536x1024"
    assert isinstance(output.media, Pixels)
    assert output.media.array.shape == (800, 1200, 3)


async def test_an_aspect_ratio_that_is_too_large_is_refused_with_the_limit(vendor: StandIn) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidTaskError, match="at least a third of the other side: 683, not 512"):
        await collect_events(vendor, replace(TASK, width=2048, height=512))
    assert not vendor.arrived


async def test_options_and_settings_reach_the_service(vendor: StandIn) -> None:
    """Options win."""
    task = replace(TASK, options={"quality": "low", "background": "opaque"})
    await collect_events(vendor, task, quality="high", moderation="low", output_format="webp")
    fields = vendor.paid[0].fields
    assert (fields["quality"], fields["background"]) == ("low", "opaque")
    assert (fields["moderation"], fields["output_format"]) == ("low", "webp")


async def test_moderation_may_be_stricter_than_configured_never_laxer(vendor: StandIn) -> None:
    """The service takes none for edits."""
    strict = replace(TASK, options={"moderation": "auto"})
    await collect_events(vendor, strict, moderation="low")
    assert vendor.paid[0].fields["moderation"] == "auto"
    refused = [
        (replace(TASK, options={"moderation": "low"}), "must be auto, not low"),
        (replace(strict, init_image=plain(64, 64, 9)), "omit options.moderation"),
    ]
    for task, message in refused:
        with pytest.raises(InvalidTaskError, match=message):
            await collect_events(vendor, task)
    assert len(vendor.paid) == 1


async def test_a_rate_limit_is_waited_for_and_the_request_paid_once(vendor: StandIn) -> None:
    """After the delay that it asks for; a rate limited request was not started."""
    vendor.submits.add(failing(429, "rate_limit_exceeded", retry_after="1"), respond(503, "<html>"))
    assert outputs(await collect_events(vendor))
    assert (len(vendor.paid), vendor.arrived) == (1, 3)


@pytest.mark.parametrize(
    ("response", "error", "message"),
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
    vendor: StandIn, response: Handler, error: type[EngineError], message: str, interval: int
) -> None:
    """A rejection says why; what may have been done is uncertain."""
    vendor.submits.add(response)
    if interval and message == "without an image":
        error, message = EngineUncertainError, "without the image"
    with pytest.raises(error, match=message):
        await collect_events(vendor, replace(TASK, preview_interval=interval), timeout_seconds=0.3)
    assert vendor.arrived == 1


BLOCKED = {"message": "unsafe", "type": "x", "code": "moderation_blocked", "param": None}
BROKEN = {"message": f"oops {KEY}", "type": "server_error", "code": None, "param": None}


@pytest.mark.parametrize(
    ("end", "error", "message"),
    [
        ([{"error": BLOCKED}], ContentFilteredError, "unsafe"),
        ([{"error": BROKEN}], EngineFailedError, "oops …"),
        ([], EngineUncertainError, "ended without the image"),
    ],
    ids=["blocked", "failed", "ended"],
)
async def test_a_stream_that_ends_early_has_its_error(
    vendor: StandIn, end: list[dict[str, object]], error: type[EngineError], message: str
) -> None:
    """After its previews."""
    vendor.end = end
    with pytest.raises(error, match=message):
        await collect_events(vendor, replace(TASK, preview_interval=1))
    assert vendor.arrived == 1


@pytest.mark.parametrize("interval", [0, 1], ids=["whole", "streamed"])
@pytest.mark.parametrize("text", ["%%%", base64.b64encode(b"no image").decode()])
async def test_an_invalid_image_has_failed(vendor: StandIn, text: str, interval: int) -> None:
    """Invalid base64, or not an image; invalid previews are skipped."""
    vendor.changed = {"b64_json": text, "data": [{"b64_json": text}]}
    with pytest.raises(EngineFailedError, match="image that"):
        await collect_events(vendor, replace(TASK, preview_interval=interval))


async def test_an_unexpected_format_has_its_actual_media_type(vendor: StandIn) -> None:
    """The file decides."""
    text = generated({"size": "768x864", "output_format": "webp"})
    vendor.changed = {"data": [{"b64_json": text}]}
    (image,) = outputs(await collect_events(vendor))
    assert image.media_type == "image/webp"


async def test_closing_the_task_closes_every_request(vendor: StandIn) -> None:
    """No asyncio task is left running."""
    vendor.submits.always = hang
    before = asyncio.all_tasks()
    async with run_engine(vendor) as engine:
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
        while vendor.disconnected < 2:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.005)


async def test_the_check_requests_the_model(vendor: StandIn) -> None:
    """A model that does not exist fails the check."""
    async with run_engine(vendor) as engine:
        await engine.check()
    async with run_engine(vendor, model="gpt-image-9") as engine:
        with pytest.raises(EngineFailedError, match="no model gpt-image-9"):
            await engine.check()


async def test_the_api_key_is_in_no_message(vendor: StandIn) -> None:
    """Even when the service repeats it."""
    with pytest.raises(EngineUnavailableError, match="Incorrect API key: …") as error:
        await collect_events(vendor, api_key="sk-some-wrong-key")
    assert "sk-some" not in str(error.value)
    assert KEY not in repr(OpenaiConfig.model_validate({"api_key": KEY}))


def test_strength_has_no_effect(vendor: StandIn) -> None:
    """So that receipts say so."""
    image = vendor.engine().capabilities.image
    assert image is not None
    assert image.ignores_strength
