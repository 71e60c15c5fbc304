"""Requests, progress and results of a fal engine."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from atelier_engines.conformance.remote_service import collect_events
from atelier_engines.errors import InvalidTaskError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.task import Control, ControlType, ImageTask, Lora, SafetyMode
from atelier_engines.vendors.fal.config import FalConfig
from tests.vendors.calls import outputs, plain
from tests.vendors.comfy_workflows.checking import of_class
from tests.vendors.fal.stand_in import APP, COMFY, KEY, TASK, StandIn


def decoded(url: str) -> np.ndarray:
    """The pixels of an image that was sent as a data URI."""
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(Image.open(io.BytesIO(data)))


async def test_a_task_is_one_paid_job_and_its_image_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """The body has everything that determines the image; the key goes to the service only."""
    events = await collect_events(vendor)
    (job,) = vendor.jobs.values()
    assert job.endpoint == "fal-ai/fast-lightning-sdxl"
    assert job.body == {
        "prompt": "a lighthouse",
        "image_size": {"width": 256, "height": 264},
        "num_inference_steps": "4",
        "num_images": 1,
        "format": "png",
        "enable_safety_checker": True,
        "seed": 7,
    }
    (image,) = outputs(events)
    assert image.data == vendor.drawn(job)
    assert (image.media_type, image.width, image.height) == ("image/png", 256, 264)
    assert vendor.leaks == 0


async def test_queue_positions_stages_and_steps_are_reported(
    vendor: StandIn,
) -> None:
    """Steps come from log lines with the same total, and never go backwards."""
    events = await collect_events(vendor)
    told = [event for event in events if isinstance(event, Stage | Step)]
    assert told == [
        Stage(name="submit"),
        Stage(name="queued", queue_position=2),
        Stage(name="queued", queue_position=0),
        Stage(name="generate"),
        Step(index=2, total=4),
        Step(index=4, total=4),
    ]


async def test_the_service_is_told_when_to_drop_jobs_and_images(vendor: StandIn) -> None:
    """A job past its deadline is not started, and images are not kept for long."""
    await collect_events(vendor, timeout_seconds=90, expire_seconds=600)
    (job,) = vendor.jobs.values()
    assert job.headers["x-fal-request-timeout"] == "90"
    preference = job.headers["x-fal-object-lifecycle-preference"]
    assert preference == '{"expiration_duration_seconds": 600}'


async def test_several_images_are_several_jobs(vendor: StandIn) -> None:
    """Each has its own seed; steps count over all of them."""
    events = await collect_events(vendor, replace(TASK, seeds=(3, 2**32 - 1, 5)))
    assert [job.body["seed"] for job in vendor.jobs.values()] == [3, 2**32 - 1, 5]
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 2**32 - 1, 5]
    steps = [(event.index, event.total) for event in events if isinstance(event, Step)]
    assert steps == [(n, 12) for n in (2, 4, 6, 8, 10, 12)]


async def test_an_init_image_is_sent_inline_in_the_size_of_the_result(
    vendor: StandIn,
) -> None:
    """As a data URI of a PNG, resized to cover the size; strength is sent unchanged."""
    await collect_events(vendor, replace(TASK, init_image=plain(900, 20, 77), strength=0.6))
    (job,) = vendor.jobs.values()
    assert job.endpoint == "fal-ai/fast-lightning-sdxl/image-to-image"
    assert job.body["strength"] == 0.6
    sent = decoded(job.body["image_url"])
    assert sent.shape == (264, 256, 3)
    assert (sent == 77).all()


async def test_a_hosted_image_is_uploaded_once_for_all_jobs(vendor: StandIn) -> None:
    """The storage receives the upload token, never the key."""
    task = replace(TASK, seeds=(1, 2), init_image=plain(64, 64, 77))
    assert len(outputs(await collect_events(vendor, task, image_transfer="hosted"))) == 2
    ((name, data),) = vendor.files.items()
    assert [job.body["image_url"] for job in vendor.jobs.values()] == (
        [f"{vendor.media}/files/{name}"] * 2
    )
    assert Image.open(io.BytesIO(data)).size == (256, 264)
    assert vendor.leaks == 0


async def test_a_mask_is_sent_white_where_to_inpaint(vendor: StandIn) -> None:
    """One channel, only the values 0 and 255."""
    mask = plain(256, 264, 0)
    mask.array[:40] = 200
    await collect_events(vendor, replace(TASK, init_image=plain(256, 264, 9), mask=mask))
    (job,) = vendor.jobs.values()
    assert job.endpoint == "fal-ai/fast-lightning-sdxl/inpainting"
    sent = decoded(job.body["mask_url"])
    assert (sent[:40] == 255).all()
    assert (sent[40:] == 0).all()


async def test_the_full_model_takes_more_parameters(vendor: StandIn) -> None:
    """Steps as a number, guidance, a negative prompt, and LoRAs by URL."""
    task = replace(
        TASK, steps=30, guidance=5.0, negative_prompt="fog", loras=(Lora(name="rust", weight=0.6),)
    )
    address = "https://example.org/rust.safetensors"
    await collect_events(vendor, task, model="fal-ai/fast-sdxl", loras={"rust": address})
    (job,) = vendor.jobs.values()
    assert job.body["num_inference_steps"] == 30
    assert (job.body["guidance_scale"], job.body["negative_prompt"]) == (5.0, "fog")
    assert job.body["loras"] == [{"path": address, "scale": 0.6}]


async def test_options_reach_the_model(vendor: StandIn) -> None:
    """Unset ones are not sent."""
    await collect_events(vendor, replace(TASK, options={"expand_prompt": True}))
    (job,) = vendor.jobs.values()
    assert job.body["expand_prompt"] is True


async def test_a_task_may_name_its_endpoint_and_priority(vendor: StandIn) -> None:
    """An endpoint of those that are configured; nothing of that is in the body."""
    options = {"endpoint": "me/lightning", "priority": "low"}
    await collect_events(
        vendor,
        replace(TASK, options=options),
        further_endpoints=["me/lightning"],
        priority="normal",
    )
    (job,) = vendor.jobs.values()
    assert (job.endpoint, job.headers["x-fal-queue-priority"]) == ("me/lightning", "low")
    assert not job.body.keys() & options.keys()
    with pytest.raises(InvalidTaskError, match="must be one of fal-ai/fast-lightning-sdxl, not"):
        await collect_events(vendor, replace(TASK, options={"endpoint": "me/lightning"}))


async def test_an_engine_can_be_fixed_to_a_number_of_steps(vendor: StandIn) -> None:
    """Two steps are enough for drafts."""
    image = vendor.engine(steps=2).capabilities.image
    assert image is not None
    assert image.steps is not None
    assert (image.steps.min, image.steps.max, image.steps.default) == (2, 2, 2)
    assert outputs(await collect_events(vendor, replace(TASK, steps=2), steps=2))


@pytest.mark.parametrize(("safety", "offered"), [("block", 1), ("flag", 2), ("off", 3)])
def test_requests_may_be_stricter_than_the_configuration_never_laxer(
    vendor: StandIn, safety: str, offered: int
) -> None:
    """The configured mode is the laxest one that is supported."""
    image = vendor.engine(safety=safety).capabilities.image
    assert image is not None
    assert image.safety_modes == (SafetyMode.BLOCK, SafetyMode.FLAG, SafetyMode.OFF)[:offered]


@pytest.mark.parametrize("shape", ["images", "image", "outputs"])
async def test_every_shape_of_a_workflows_result_is_understood(vendor: StandIn, shape: str) -> None:
    """Apps and saved workflows use different ones."""
    vendor.shape = shape
    assert outputs(await collect_events(vendor, COMFY_TASK, comfy=COMFY))


async def test_an_inline_result_is_not_downloaded(vendor: StandIn) -> None:
    """Models in sync mode return one."""
    vendor.shape = "inline"
    (image,) = outputs(await collect_events(vendor))
    (job,) = vendor.jobs.values()
    assert image.data == vendor.drawn(job)


COMFY_TASK = ImageTask(prompt="a castle", width=256, height=256, seeds=(7,), steps=25, guidance=6.0)


async def test_a_workflow_carries_loras_control_and_their_images(vendor: StandIn) -> None:
    """LoRA files in order, a depth ControlNet, and its control image by the name that it is sent with."""
    task = replace(
        COMFY_TASK,
        loras=(Lora(name="medieval", weight=0.8), Lora(name="cinematic", weight=0.5)),
        controls=(Control(type=ControlType.DEPTH, image=plain(64, 64, 128), strength=0.7),),
    )
    assert outputs(await collect_events(vendor, task, comfy=COMFY))
    (job,) = vendor.jobs.values()
    assert job.endpoint == APP
    graph = job.body["workflow"]
    loaded = [(lora["lora_name"], lora["strength_model"]) for lora in of_class(graph, "LoraLoader")]
    assert loaded == [("medieval_v2.safetensors", 0.8), ("cine.safetensors", 0.5)]
    (net,) = of_class(graph, "ControlNetLoader")
    assert net["control_net_name"] == "depth_sdxl.safetensors"
    (image,) = job.body["images"]
    assert of_class(graph, "LoadImage")[0]["image"] == image["name"]
    assert (decoded(image["url"]) == 128).all()


async def test_a_workflow_can_be_changed_by_configuration(vendor: StandIn) -> None:
    """Nodes are merged by id or title."""
    changed = {**COMFY, "overrides": {"Checkpoint": {"inputs": {"ckpt_name": "own.safetensors"}}}}
    await collect_events(vendor, COMFY_TASK, comfy=changed)
    (job,) = vendor.jobs.values()
    (loader,) = of_class(job.body["workflow"], "CheckpointLoaderSimple")
    assert loader["ckpt_name"] == "own.safetensors"


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "fal-ai/nothing"},
        {"steps": 3},
        {"loras": {"rust": "https://x"}},
        {"model": "fal-ai/fast-sdxl", "steps": 4},
        {"base_url": "ftp://fal.run"},
        {"comfy": {"endpoint": "nameless"}},
        {"comfy": {**COMFY, "overrides": {"no such node": {"inputs": {}}}}},
        {"comfy": COMFY, "steps": 4},
    ],
    ids=range(8),
)
def test_invalid_settings_are_refused_when_the_configuration_is_read(
    settings: dict[str, object],
) -> None:
    """Not only when the first task runs."""
    with pytest.raises(ValidationError):
        FalConfig.model_validate({"api_key": KEY, **settings})
