"""fal's own SDK works with the fake service, so the fake follows fal's API."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import fal_client
import pytest
from fal_client import _headers
from fal_client import client as sdk
from PIL import Image

from atelier_engines.vendors.fal import engine, queue_api
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.queue_api import FalJob, FalStatus
from atelier_engines.vendors.fal.storage import build_lifecycle_headers
from tests.vendors.fal.stand_in import KEY, NSFW, StandIn

MODEL = "fal-ai/fast-lightning-sdxl"
ARGUMENTS = {
    "prompt": "a lighthouse",
    "image_size": {"width": 64, "height": 72},
    "num_inference_steps": "4",
    "seed": 7,
    "format": "png",
}


@pytest.fixture
async def client(
    vendor: StandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[fal_client.AsyncClient]:
    """The SDK's client; its URLs are constants, so those are changed."""
    monkeypatch.setattr(sdk, "QUEUE_URL_FORMAT", f"{vendor.queue}/")
    monkeypatch.setattr(sdk, "REST_URL", vendor.rest)
    monkeypatch.setattr(sdk, "CDN_URL", vendor.media)
    made = fal_client.AsyncClient(key=KEY)
    yield made
    http: Any = await made._client
    await http.aclose()


async def statuses(handle: fal_client.AsyncRequestHandle) -> list[fal_client.Status]:
    """Every status that the SDK receives for a job."""
    events = handle.iter_events(with_logs=True, interval=0.001)
    return [event async for event in events]


async def test_the_sdk_submits_polls_and_fetches(
    vendor: StandIn, client: fal_client.AsyncClient
) -> None:
    """Queue positions, logs and the result have the shape that it expects."""
    handle = await client.submit(MODEL, ARGUMENTS, start_timeout=300)
    told = await statuses(handle)
    kinds = [type(event).__name__ for event in told]
    assert kinds == ["Queued", "Queued", "InProgress", "InProgress", "InProgress", "Completed"]
    result = await handle.get(interval=0.001)
    ((job_id, job),) = vendor.jobs.items()
    assert handle.request_id == job_id
    assert result["images"][0]["url"] == f"{vendor.media}/made/{job_id}"
    assert result["has_nsfw_concepts"] == [False]
    assert job.headers["x-fal-request-timeout"].startswith("300")


async def test_the_sdk_uploads_an_init_image(
    vendor: StandIn, client: fal_client.AsyncClient
) -> None:
    """First a token, then the file; a subpath of the model is not part of the job's URLs."""
    url = await client.upload_image(Image.new("RGB", (64, 72)), format="png")
    handle = await client.submit(f"{MODEL}/image-to-image", {**ARGUMENTS, "image_url": url})
    result = await handle.get(interval=0.001)
    assert result["images"]
    ((_, data),) = vendor.files.items()
    assert Image.open(io.BytesIO(data)).size == (64, 72)


async def test_the_sdk_receives_flags(client: fal_client.AsyncClient) -> None:
    """A flagged image is not an error."""
    handle = await client.submit(MODEL, {**ARGUMENTS, "prompt": NSFW})
    result = await handle.get(interval=0.001)
    assert result["has_nsfw_concepts"] == [True]


async def test_the_sdk_cancels(vendor: StandIn, client: fal_client.AsyncClient) -> None:
    """The job is then completed, with a result that message it was cancelled."""
    handle = await client.submit(MODEL, ARGUMENTS)
    await handle.cancel()
    (job,) = vendor.jobs.values()
    assert job.cancelled
    with pytest.raises(fal_client.FalClientHTTPError) as error:
        await handle.get(interval=0.001)
    assert error.value.status_code == 499


@pytest.mark.parametrize(
    ("key", "arguments", "status"),
    [("no:key", ARGUMENTS, 401), (KEY, {**ARGUMENTS, "num_inference_steps": 3}, 422)],
)
async def test_the_sdk_understands_errors(
    client: fal_client.AsyncClient, key: str, arguments: dict[str, Any], status: int
) -> None:
    """An invalid key at once, an invalid argument when the result is fetched."""
    client.key = key

    async def run() -> None:
        handle = await client.submit(MODEL, arguments)
        await handle.get(interval=0.001)

    with pytest.raises(fal_client.FalClientHTTPError) as error:
        await run()
    assert error.value.status_code == status


def test_what_is_read_has_the_names_of_the_sdk() -> None:
    """Of jobs and statuses; a queue position is `position` there, and read from `queue_position`."""
    handle = {one.name for one in fields(sdk._BaseRequestHandle)}
    assert FalJob.model_fields.keys() <= handle
    statuses = (fal_client.Queued, fal_client.InProgress, fal_client.Completed)
    known = {one.name for status in statuses for one in fields(status)}
    assert FalStatus.model_fields.keys() - {"status", "queue_position"} <= known


def test_the_headers_are_those_of_the_sdk() -> None:
    """What it sends with a job, with an upload, and what it looks for in responses."""
    config = FalConfig.model_validate({"api_key": KEY, "priority": "low"})
    lifecycle: dict[str, str] = {}
    sdk._object_lifecycle_headers(lifecycle, {"expiration_duration_seconds": 60})
    assert build_lifecycle_headers(60) == {name.lower(): value for name, value in lifecycle.items()}
    assert config.priority in get_args(_headers.Priority)
    priority = get_type_hints(FalConfig)["priority"]
    assert get_args(get_args(priority)[0]) == get_args(_headers.Priority)
    assert _headers.REQUEST_TIMEOUT_HEADER.lower() == "x-fal-request-timeout"
    assert _headers.QUEUE_PRIORITY_HEADER.lower() == "x-fal-queue-priority"
    assert _headers.REQUEST_TIMEOUT_TYPE_HEADER.lower() == "x-fal-request-timeout-type"
    assert queue_api._MIN_REQUEST_TIMEOUT_SECONDS > _headers.MIN_REQUEST_TIMEOUT_SECONDS
    assert set(sdk.APP_NAMESPACES) == engine._NAMESPACES
