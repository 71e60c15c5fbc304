"""How images are sent to fal: inside the request, or uploaded to its storage."""

from __future__ import annotations

import base64
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FalStorage:
    """fal's file storage; a URL in it cannot be guessed, but whoever knows it can download the file."""

    queue: VendorClient
    """Client with the API key, which issues upload tokens."""
    uploads: VendorClient
    """Client of the storage; it never receives the API key."""
    rest_url: str
    """URL of the API that issues upload tokens."""

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
            },
            model=UploadedFile,
        )
        return uploaded.access_url
