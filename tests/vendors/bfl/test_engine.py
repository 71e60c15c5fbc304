"""Requests, progress and results of a bfl engine."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from atelier_engines.conformance.remote_service import collect_events
from atelier_engines.errors import InvalidTaskError
from atelier_engines.event import Dispatched, Output
from atelier_engines.media import Pixels
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.payloads import nearest_ratio
from tests.vendors.bfl.stand_in import KEY, TASK, StandIn, drawn
from tests.vendors.calls import outputs, plain, steps


def decoded(text: str) -> np.ndarray:
    """The pixels of an image that was sent."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


async def test_a_task_is_one_paid_job_and_its_image_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """The body has everything that determines the image; the key goes to the service only."""
    events = await collect_events(vendor)
    (job,) = vendor.jobs.values()
    assert job.model == "flux-2-pro"
    assert job.body == {
        "prompt": "a lighthouse",
        "width": 64,
        "height": 80,
        "seed": 7,
        "output_format": "png",
    }
    (image,) = outputs(events)
    assert image.data == drawn(job.body)
    assert (image.media_type, image.width, image.height) == ("image/png", 64, 80)
    assert vendor.leaks == 0


async def test_progress_counts_over_all_images(vendor: StandIn) -> None:
    """A hundred steps an image; absent or repeated progress yields no event."""
    events = await collect_events(vendor, replace(TASK, seeds=(7, 8)))
    assert steps(events) == [(n, 200) for n in (25, 50, 100, 125, 150, 200)]


async def test_several_images_are_several_jobs_and_every_handle_names_all_so_far(
    vendor: StandIn,
) -> None:
    """Also those before each request; each job has its own seed, and the images come in their order."""
    events = await collect_events(vendor, replace(TASK, seeds=(3, 2**31 - 1, 5)))
    handles = [event.handle for event in events if isinstance(event, Dispatched)]
    assert [handle.count("job-") // 2 for handle in handles] == [0, 1, 1, 2, 2, 3]
    assert [job.body["seed"] for job in vendor.jobs.values()] == [3, 2**31 - 1, 5]
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 2**31 - 1, 5]


async def test_an_init_image_is_sent_in_the_size_of_the_result(vendor: StandIn) -> None:
    """As base64 of a PNG, resized to cover the size."""
    await collect_events(vendor, replace(TASK, init_image=plain(300, 20, 77)))
    (job,) = vendor.jobs.values()
    sent = decoded(job.body["input_image"])
    assert sent.shape == (80, 64, 3)
    assert (sent == 77).all()


async def test_the_weight_of_the_init_image_is_the_rest_of_strength(vendor: StandIn) -> None:
    """For models that take a weight."""
    task = replace(TASK, width=512, height=512, init_image=plain(64, 64, 9), strength=0.3)
    await collect_events(vendor, task, model="flux-pro-1.1-ultra")
    (job,) = vendor.jobs.values()
    assert job.body["image_prompt_strength"] == 0.7
    assert job.body["aspect_ratio"] == "1:1"


async def test_a_mask_goes_to_the_fill_model_white_where_to_inpaint(
    vendor: StandIn,
) -> None:
    """The mask has the image's size, one channel, and only the values 0 and 255."""
    mask = plain(64, 80, 0)
    mask.array[:40] = 200
    await collect_events(vendor, replace(TASK, init_image=plain(64, 80, 9), mask=mask))
    (job,) = vendor.jobs.values()
    assert job.model == "flux-pro-1.0-fill"
    sent = decoded(job.body["mask"])
    assert (sent[:40] == 255).all()
    assert (sent[40:] == 0).all()


async def test_images_of_models_that_choose_their_size_are_resized(
    vendor: StandIn,
) -> None:
    """The nearest aspect ratio is requested, and the result scaled and cropped."""
    task = replace(TASK, width=1024, height=560)
    events = await collect_events(vendor, task, model="flux-kontext-pro")
    (job,) = vendor.jobs.values()
    assert job.body["aspect_ratio"] == "16:9"
    (media,) = [event.media for event in events if isinstance(event, Output)]
    assert isinstance(media, Pixels)
    assert media.array.shape == (560, 1024, 3)


@pytest.mark.parametrize(
    ("size", "ratio"),
    [((64, 64), "1:1"), ((2100, 900), "21:9"), ((3000, 64), "21:9"), ((700, 1000), "2:3")],
)
def test_the_nearest_aspect_ratio_is_nearest_by_proportion(
    size: tuple[int, int], ratio: str
) -> None:
    """Wide and tall are treated alike; the widest is the limit."""
    assert nearest_ratio(*size) == ratio


async def test_options_and_steps_reach_the_models_that_have_them(vendor: StandIn) -> None:
    """Unset ones are not sent."""
    task = replace(TASK, steps=12, guidance=2.5, options={"prompt_upsampling": False})
    await collect_events(vendor, task, model="flux-2-flex", safety_tolerance=0)
    body = vendor.jobs["job-0"].body
    assert (body["steps"], body["guidance"]) == (12, 2.5)
    assert body["prompt_upsampling"] is False
    assert body["safety_tolerance"] == 0


async def test_a_request_may_be_stricter_than_the_configuration_never_laxer(
    vendor: StandIn,
) -> None:
    """Where nothing is configured the service's default is the limit."""
    task = replace(TASK, options={"safety_tolerance": 1})
    await collect_events(vendor, task, safety_tolerance=3)
    assert vendor.jobs["job-0"].body["safety_tolerance"] == 1
    for settings in ({"safety_tolerance": 0}, {}):
        with pytest.raises(InvalidTaskError, match="safety_tolerance must be at most"):
            await collect_events(vendor, replace(TASK, options={"safety_tolerance": 3}), **settings)
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize(
    "settings", [{"model": "flux-9"}, {"safety_tolerance": 6}, {"base_url": "ftp://bfl.ai"}]
)
def test_invalid_settings_are_refused_when_the_configuration_is_read(
    settings: dict[str, object],
) -> None:
    """An unknown model, too high a tolerance, an invalid URL."""
    with pytest.raises(ValidationError):
        BflConfig.model_validate({"api_key": KEY, **settings})


@pytest.mark.parametrize(
    ("model", "ignored"), [("flux-2-pro", True), ("flux-pro-1.1-ultra", False)]
)
def test_a_model_that_edits_ignores_strength(vendor: StandIn, model: str, *, ignored: bool) -> None:
    """So that receipts say so."""
    image = vendor.engine(model=model).capabilities.image
    assert image is not None
    assert image.ignores_strength is ignored


async def test_options_with_a_mask_reach_the_inpainting_model_or_are_refused(
    vendor: StandIn,
) -> None:
    """It takes `prompt_upsampling`, and has no `raw`."""
    task = replace(
        TASK,
        width=1024,
        height=1024,
        init_image=plain(64, 64, 9),
        mask=plain(64, 64, 255, 1),
        options={"prompt_upsampling": True},
    )
    settings: dict[str, Any] = {"model": "flux-pro-1.1-ultra", "inpainting": True}
    await collect_events(vendor, task, **settings)
    (job,) = vendor.jobs.values()
    assert (job.model, job.body["prompt_upsampling"]) == ("flux-pro-1.0-fill", True)
    with pytest.raises(InvalidTaskError, match=r"omit options\.raw with a mask"):
        await collect_events(vendor, replace(task, options={"raw": True}), **settings)
    assert len(vendor.jobs) == 1
