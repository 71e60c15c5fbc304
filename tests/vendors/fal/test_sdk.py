"""fal's own SDK works against the stand-in: so the stand-in speaks as fal does."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import fal_client
import pytest
from fal_client import client as sdk
from PIL import Image

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
    """The SDK's client; where it speaks to are constants of its own, so those are what is changed."""
    monkeypatch.setattr(sdk, "QUEUE_URL_FORMAT", f"{vendor.queue}/")
    monkeypatch.setattr(sdk, "REST_URL", vendor.rest)
    monkeypatch.setattr(sdk, "CDN_URL", vendor.media)
    made = fal_client.AsyncClient(key=KEY)
    yield made
    http: Any = await made._client
    await http.aclose()


async def statuses(handle: fal_client.AsyncRequestHandle) -> list[fal_client.Status]:
    """All that the SDK is told about a job."""
    events = handle.iter_events(with_logs=True, interval=0.001)
    return [event async for event in events]


async def test_the_sdk_submits_follows_and_fetches(
    vendor: StandIn, client: fal_client.AsyncClient
) -> None:
    """Queue positions, logs and result come as it wants them."""
    handle = await client.submit(MODEL, ARGUMENTS, start_timeout=300)
    told = await statuses(handle)
    kinds = [type(event).__name__ for event in told]
    assert kinds == ["Queued", "Queued", "InProgress", "InProgress", "InProgress", "Completed"]
    result = await handle.get(interval=0.001)
    ((job_id, job),) = vendor.jobs.items()
    assert handle.request_id == job_id
    assert result["images"][0]["url"] == f"{vendor.media}/made/{job_id}"
    assert result["has_nsfw_concepts"] == [False]
    assert job.headers["x-fal-request-timeout"].startswith("60")


async def test_the_sdk_uploads_a_picture_to_start_from(
    vendor: StandIn, client: fal_client.AsyncClient
) -> None:
    """Leave first, then the file; a subpath of the model is no part of the job's addresses."""
    url = await client.upload_image(Image.new("RGB", (64, 72)), format="png")
    handle = await client.submit(f"{MODEL}/image-to-image", {**ARGUMENTS, "image_url": url})
    result = await handle.get(interval=0.001)
    assert result["images"]
    ((_, data),) = vendor.files.items()
    assert Image.open(io.BytesIO(data)).size == (64, 72)


async def test_the_sdk_is_told_of_flags(client: fal_client.AsyncClient) -> None:
    """A flagged picture is no error to it."""
    handle = await client.submit(MODEL, {**ARGUMENTS, "prompt": NSFW})
    result = await handle.get(interval=0.001)
    assert result["has_nsfw_concepts"] == [True]


async def test_the_sdk_cancels(vendor: StandIn, client: fal_client.AsyncClient) -> None:
    """Then the job is completed, and its result is that it was cancelled."""
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
async def test_the_sdk_understands_refusals(
    client: fal_client.AsyncClient, key: str, arguments: dict[str, Any], status: int
) -> None:
    """A bad key at once, a bad argument when the result is fetched."""
    client.key = key

    async def run() -> None:
        handle = await client.submit(MODEL, arguments)
        await handle.get(interval=0.001)

    with pytest.raises(fal_client.FalClientHTTPError) as error:
        await run()
    assert error.value.status_code == status
