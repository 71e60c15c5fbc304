"""What a runpod engine sends, and how its work proceeds."""

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
from tests.vendors.runpod.stand_in import ENDPOINT, FILES, KEY, TASK, StandIn


async def test_a_task_is_one_paid_job_and_its_picture_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """The graph is filled, and the service told when to give the job up itself."""
    events = await collect_events(vendor, timeout_seconds=120)
    (job,) = vendor.jobs.values()
    assert job.body.keys() == {"input", "policy"}
    assert job.body["policy"] == {"executionTimeout": 120_000, "ttl": 180_000}
    assert job.body["input"]["images"] == []
    (sampler,) = of_class(job.body["input"]["workflow"], "KSampler")
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 25, 6.0)
    (picture,) = outputs(events)
    assert picture.data == vendor.drawn(job)
    assert (picture.media_type, picture.width, picture.height) == ("image/png", 128, 136)


@pytest.mark.parametrize("shape", ["v5", "s3", "message", "message_url"])
async def test_every_shape_of_a_result_is_understood(vendor: StandIn, shape: str) -> None:
    """Of workers before and after version 5, with and without a store; the store never sees the key."""
    vendor.shape = shape
    (picture,) = outputs(await collect_events(vendor))
    (job,) = vendor.jobs.values()
    assert picture.data == vendor.drawn(job)
    assert vendor.leaks == 0


async def test_what_goes_wrong_beside_a_picture_does_not_lose_it(
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


async def test_stages_are_told_as_the_service_tells_them(vendor: StandIn) -> None:
    """worker-comfyui tells no steps, so there are none."""
    events = await collect_events(vendor)
    told = [event for event in events if isinstance(event, Stage | Step)]
    assert told == [Stage(name="submit"), Stage(name="queued"), Stage(name="generate")]


async def test_a_cold_start_is_a_stage_of_its_own(vendor: StandIn) -> None:
    """While workers come up and none is there; it does not go back to being queued."""
    vendor.workers = {"idle": 0, "running": 0, "initializing": 1}
    events = await collect_events(vendor)
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names == ["submit", "queued", "start", "generate"]


async def test_without_word_of_the_workers_the_job_is_just_queued(vendor: StandIn) -> None:
    """The health of the endpoint only explains."""
    vendor.healths.always = respond(404, {})
    assert outputs(await collect_events(vendor))


async def test_progress_of_a_worker_of_ones_own_is_told_and_is_no_result(vendor: StandIn) -> None:
    """It comes in the same field as the result."""
    vendor.shape = "progress"
    events = await collect_events(vendor, replace(TASK, seeds=(1, 2)))
    steps = [(event.index, event.total) for event in events if isinstance(event, Step)]
    assert steps == [(n, 50) for n in (15, 20, 25, 40, 45, 50)]
    assert len(outputs(events)) == 2


async def test_what_does_not_count_the_tasks_steps_is_no_progress(vendor: StandIn) -> None:
    """A worker may count downloads or megabytes."""
    for told in (
        {"step": 1, "total": 3},
        {"step": 26, "total": 25},
        {"step": 0, "total": 25},
        "50%",
    ):
        vendor.polls.add(respond(200, {"id": "x", "status": "IN_PROGRESS", "output": told}))
    assert not [event for event in await collect_events(vendor) if isinstance(event, Step)]


async def test_a_workflow_carries_its_pictures_loras_and_controls(vendor: StandIn) -> None:
    """Nodes load each picture by the name under which it is sent; LoRAs keep their order."""
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


async def test_two_tasks_never_share_names_of_files(vendor: StandIn) -> None:
    """A worker keeps pictures of earlier jobs."""
    task = replace(TASK, init_image=plain(64, 64, 9))
    await collect_events(vendor, task)
    await collect_events(vendor, task)
    names = [job.body["input"]["images"][0]["name"] for job in vendor.jobs.values()]
    assert len(set(names)) == 2


async def test_pictures_too_large_for_a_request_are_refused_before_it_is_sent(
    vendor: StandIn,
) -> None:
    """The caller is told to send smaller ones."""
    with pytest.raises(InvalidTaskError, match="smaller") as error:
        await collect_events(vendor, replace(TASK, init_image=noise(1700, 1700)))
    assert error.value.field == "init_image"
    assert not vendor.jobs


@pytest.mark.parametrize(
    "settings",
    [{"endpoint": "../other"}, {"family": "sd3"}, {"workflows": {"img2img": {}}}, {"models": []}],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, object]) -> None:
    """When the configuration is read, not when the first task comes."""
    with pytest.raises(ValidationError):
        RunpodConfig.model_validate({"api_key": KEY, "endpoint": ENDPOINT, **settings})


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (128, 136)).save(file, "PNG")
    return file.getvalue()


def _opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))
