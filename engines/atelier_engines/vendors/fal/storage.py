"""How images are sent to fal: inside the request, or uploaded to its storage."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field

from atelier_engines.vendors.client import VendorClient


class UploadToken(BaseModel):
    """A token that allows uploads for a while."""

    token: str = Field(min_length=1)
    """Secret."""
    token_type: str = "Bearer"  # noqa: S105 (a name)
    """Scheme of the authorization header."""


class UploadedFile(BaseModel):
    """An uploaded image."""

    access_url: str = Field(min_length=1)
    """URL of the image."""


def encode_data_uri(png: bytes) -> str:
    """The PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def build_lifecycle_headers(expire_seconds: int | None) -> dict[str, str]:
    """Headers with the time after which the service may delete files; none for its default.

    The storage reads one of the two, the other services the other.
    Source: `fal-client` 1.0.3, client.py, _object_lifecycle_headers.
    """
    if expire_seconds is None:
        return {}
    preference = json.dumps({"expiration_duration_seconds": expire_seconds})
    return {
        "x-fal-object-lifecycle": preference,
        "x-fal-object-lifecycle-preference": preference,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FalStorage:
    """fal's file storage; a URL in it cannot be guessed, but whoever knows it can download the file."""

    queue: VendorClient
    """Client with the API key, which issues upload tokens."""
    uploads: VendorClient
    """Client of the storage; it never receives the API key."""
    rest_url: str
    """URL of the API that issues upload tokens."""
    expire_seconds: int | None = None
    """Time after which uploaded files may be deleted; None for the service's default."""

    async def upload(self, images: Mapping[str, bytes]) -> dict[str, str]:
        """Upload PNG files by name, and return their URLs.

        Raises:
            EngineError: see `vendors.errors`.
        """
        url = f"{self.rest_url}/storage/auth/token?storage_type=fal-cdn-v3"
        token = await self.queue.request("POST", url, json={}, model=UploadToken)
        return {name: await self._upload(name, png, token) for name, png in images.items()}

    async def close(self) -> None:
        """Close all connections of both clients."""
        await self.queue.close()
        await self.uploads.close()

    async def _upload(self, name: str, png: bytes, token: UploadToken) -> str:
        uploaded = await self.uploads.request(
            "POST",
            "/files/upload",
            content=png,
            headers={
                "authorization": f"{token.token_type} {token.token}",
                "content-type": "image/png",
                "x-fal-file-name": f"{name.removesuffix('.png')}.png",
                **build_lifecycle_headers(self.expire_seconds),
            },
            model=UploadedFile,
        )
        return uploaded.access_url
