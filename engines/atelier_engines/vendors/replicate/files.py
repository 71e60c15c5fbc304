"""How images are sent to Replicate: inside the request, or uploaded to its file storage."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel

from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.replicate.config import TaskField


class _Urls(BaseModel):
    """URLs of an uploaded file."""

    get: str
    """URL that a prediction may take; others need the API token for it."""


class _StoredFile(BaseModel):
    """An uploaded file."""

    urls: _Urls


async def send_images(
    client: VendorClient, images: Mapping[TaskField, bytes], transfer: Literal["inline", "hosted"]
) -> dict[TaskField, str]:
    """URLs of PNG files, uploaded first if they are hosted.

    Raises:
        EngineError: see `vendors.errors`.
    """
    if transfer == "inline":
        return {field: _encode_data_uri(png) for field, png in images.items()}
    return {field: await _upload(client, field, png) for field, png in images.items()}


async def _upload(client: VendorClient, field: TaskField, png: bytes) -> str:
    content = ("content", (f"{field.value}.png", png, "image/png"))
    stored = await client.request("POST", "/v1/files", files=[content], model=_StoredFile)
    return stored.urls.get


def _encode_data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
