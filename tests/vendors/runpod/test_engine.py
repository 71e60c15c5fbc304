"""Requests, progress and results of a runpod engine."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote_service import collect_events
from atelier_engines.errors import InvalidTaskError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.task import Control, ControlType, Lora
from atelier_engines.vendors.runpod.config import RunpodConfig
from tests.vendors.calls import noise, outputs, plain
from tests.vendors.comfy_workflows.checking import of_class
from tests.vendors.runpod.stand_in import ENDPOINT, FILES, FURTHER_ENDPOINT, KEY, TASK, StandIn


async def test_a_task_is_one_paid_job_and_its_image_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """The graph has the task's values, and the policy message when the service drops the job."""
    events = await collect_events(vendor, timeout_seconds=120)
    (job,) = vendor.jobs.values()
    assert job.body.keys() == {"input", "policy"}
    assert job.body["policy"] == {"executionTimeout": 120_000, "ttl": 180_000}
    assert job.body["input"]["images"] == []
    (sampler,) = of_class(job.body["input"]["workflow"], "KSampler")
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 25, 6.0)
    (image,) = outputs(events)
    assert image.data == vendor.drawn(job)
    assert (image.media_type, image.width, image.height) == ("image/png", 128, 136)


SHAPES = (
    *("v5", "s3", "message", "message_url", "text", "texts", "data_uri", "list"),
    *("job_results", "job_results_list", "job_results_beside"),
)


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_a_result_is_understood(vendor: StandIn, shape: str) -> None:
    """Of worker-comfyui before and after version 5, and of others; a storage never receives the key."""
    vendor.shape = shape
    (image,) = outputs(await collect_events(vendor))
    (job,) = vendor.jobs.values()
    assert image.data == vendor.drawn(job)
    assert vendor.leaks == 0


async def test_an_error_beside_an_image_does_not_lose_it(
    vendor: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""
    data = base64.b64encode(_png()).decode()
    images = [{"filename": "a.png", "type": "base64", "data": data}]
    output = {"images": images, "errors": ["node 12 made gifs"]}
    vendor.polls.add(respond(200, {"id": "x", "status": "COMPLETED", "output": output}))
    assert [event for event in await collect_events(vendor) if isinstance(event, Output)]
    (record,) = [one for one in caplog.records if one.msg == "worker_error_beside_image"]
    assert vars(record)["error"] == "node 12 made gifs"


async def test_stages_are_reported(vendor: StandIn) -> None:
    """worker-comfyui reports no steps, so there are none."""
    events = await collect_events(vendor)
    told = [event for event in events if isinstance(event, Stage | Step)]
    assert told == [Stage(name="submit"), Stage(name="queued"), Stage(name="generate")]


async def test_a_cold_start_is_a_stage_of_its_own(vendor: StandIn) -> None:
    """While workers are starting and none is ready; it does not go back to queued."""
    vendor.workers = {"idle": 0, "running": 0, "initializing": 1}
    events = await collect_events(vendor)
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names == ["submit", "queued", "start", "generate"]


async def test_without_the_health_of_the_workers_the_job_is_queued(vendor: StandIn) -> None:
    """The health of the endpoint is optional."""
    vendor.healths.always = respond(404, {})
    assert outputs(await collect_events(vendor))


async def test_progress_of_a_custom_worker_is_reported_and_is_no_result(vendor: StandIn) -> None:
    """It comes in the same field as the result."""
    vendor.shape = "progress"
    events = await collect_events(vendor, replace(TASK, seeds=(1, 2)))
    steps = [(event.index, event.total) for event in events if isinstance(event, Step)]
    assert steps == [(n, 50) for n in (15, 20, 25, 40, 45, 50)]
    assert len(outputs(events)) == 2


async def test_progress_with_another_total_is_ignored(vendor: StandIn) -> None:
    """A worker may count downloads or megabytes."""
    for told in (
        {"step": 1, "total": 3},
        {"step": 26, "total": 25},
        {"step": 0, "total": 25},
        "50%",
    ):
        vendor.polls.add(respond(200, {"id": "x", "status": "IN_PROGRESS", "output": told}))
    assert not [event for event in await collect_events(vendor) if isinstance(event, Step)]


async def test_a_workflow_carries_its_images_loras_and_controls(vendor: StandIn) -> None:
    """Nodes load each image by the name under which it is sent; LoRAs keep their order."""
    task = replace(
        TASK,
        init_image=plain(64, 64, 9),
        strength=0.6,
        loras=(Lora(name="medieval", weight=0.8), Lora(name="cinematic", weight=0.5)),
        controls=(Control(type=ControlType.DEPTH, image=plain(32, 32, 128)),),
    )
    assert outputs(await collect_events(vendor, task, **FILES))
    (job,) = vendor.jobs.values()
    graph, images = job.body["input"]["workflow"], job.body["input"]["images"]
    assert [lora["lora_name"] for lora in of_class(graph, "LoraLoader")] == (
        ["medieval_v2.safetensors", "cine.safetensors"]
    )
    loaded = {node["image"] for node in of_class(graph, "LoadImage")}
    assert loaded == {image["name"] for image in images}
    values = {int(np.asarray(_opened(image["image"])).max()) for image in images}
    assert values == {9, 128}
    (sampler,) = of_class(graph, "KSampler")
    assert sampler["denoise"] == 0.6


async def test_two_tasks_never_share_file_names(vendor: StandIn) -> None:
    """A worker keeps images of earlier jobs."""
    task = replace(TASK, init_image=plain(64, 64, 9))
    await collect_events(vendor, task)
    await collect_events(vendor, task)
    names = [job.body["input"]["images"][0]["name"] for job in vendor.jobs.values()]
    assert len(set(names)) == 2


async def test_images_too_large_for_a_request_are_refused_before_it_is_sent(
    vendor: StandIn,
) -> None:
    """The error asks for smaller ones."""
    with pytest.raises(InvalidTaskError, match="smaller") as error:
        await collect_events(vendor, replace(TASK, init_image=noise(1700, 1700)))
    assert error.value.field == "init_image"
    assert not vendor.jobs


@pytest.mark.parametrize(
    "settings",
    [{"endpoint": "../other"}, {"family": "sd3"}, {"workflows": {"img2img": {}}}, {"models": []}],
)
def test_invalid_settings_are_refused_when_the_configuration_is_read(
    settings: dict[str, object],
) -> None:
    """Not only when the first task runs."""
    with pytest.raises(ValidationError):
        RunpodConfig.model_validate({"api_key": KEY, "endpoint": ENDPOINT, **settings})


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (128, 136)).save(file, "PNG")
    return file.getvalue()


def _opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


async def test_a_task_runs_on_the_endpoint_that_its_options_name(vendor: StandIn) -> None:
    """Of those that are configured; its job is polled there."""
    further = {"further_endpoints": [FURTHER_ENDPOINT]}
    task = replace(TASK, options={"endpoint": FURTHER_ENDPOINT})
    assert outputs(await collect_events(vendor, task, **further))
    assert list(vendor.endpoints.values()) == [FURTHER_ENDPOINT]
    with pytest.raises(InvalidTaskError, match=f"must be one of {ENDPOINT}, not"):
        await collect_events(vendor, task)
    assert len(vendor.jobs) == 1
