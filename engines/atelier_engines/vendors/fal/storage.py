"""How pictures get to fal: inside the request, or through its storage."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.fal.wire import Leave, Stored


def data_uri(png: bytes) -> str:
    """The whole file as an address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """fal's own place for files; each has an address that nobody guesses but everybody may fetch."""

    vendor: VendorClient
    """Has the key, which buys leave to store."""
    store: VendorClient
    """Where files go; never sees the key."""
    rest_url: str
    """Where leave is given."""

    async def addresses(self, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Where each of the pictures, PNG files by name, is from now on.

        Raises:
            EngineError: see `vendors.errors`.
        """
        leave = await self.vendor.request(
            "POST",
            f"{self.rest_url}/storage/auth/token?storage_type=fal-cdn-v3",
            json={},
            model=Leave,
        )
        return {name: await self._put(name, png, leave) for name, png in pictures.items()}

    async def _put(self, name: str, png: bytes, leave: Leave) -> str:
        stored = await self.store.request(
            "POST",
            "/files/upload",
            content=png,
            headers={
                "authorization": f"{leave.token_type} {leave.token}",
                "content-type": "image/png",
                "x-fal-file-name": f"{name.removesuffix('.png')}.png",
            },
            model=Stored,
        )
        return stored.access_url
