"""The requests of Vast.ai's API that renting takes.

Source: documentation of the API (docs.vast.ai, api-reference) and the SDK `vastai` 1.9.1, read in November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
)
from atelier_engines.task import JSON
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.responses import Response
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.schemas import (
    Ack,
    CreateResponse,
    Instance,
    InstancePage,
    InstanceResponse,
    Offer,
    OfferList,
)

NAME = "vastai"
_MAX_OFFERS = 20
_PAGE_SIZE = 25
_PAGE_ORDER = '[{"col": "id", "dir": "asc"}]'
"""So that no instance moves to another page meanwhile."""
_MB_PER_GB = 1000  # the service's unit of GPU memory
_GONE = frozenset({404, 410})
_TOO_MANY_REQUESTS = 429
_NO_CREDIT_WORDS = ("credit", "balance", "insufficient")


class InstanceGoneError(EngineFailedError):
    """The offer or instance no longer exists."""


def translate_rejection(response: Response) -> EngineError | None:
    """Translate responses that are specific to this service; its statuses and messages may disagree.

    A missing offer or instance has status 404 or 410, or `no_such_ask`; an account without credit a text
    with status 400 or 403; the daily quota of searches `search_quota_exceeded`, for which waiting is useless.
    """
    text = response.body.decode(errors="replace").lower()
    if response.status in _GONE or "no_such_ask" in text:
        return InstanceGoneError("vastai: the offer or instance no longer exists")
    if response.status == _TOO_MANY_REQUESTS and "search_quota_exceeded" in text:
        return EngineQuotaError("vastai: daily quota of searches exceeded (search_quota_exceeded)")
    if response.status in {400, 403} and any(word in text for word in _NO_CREDIT_WORDS):
        return EngineQuotaError("vastai: the account has no credit left")
    return None


@dataclass(frozen=True, slots=True)
class VastApi:
    """The service, for one account."""

    vendor: VendorClient
    config: VastaiConfig

    async def search(self) -> list[Offer]:
        """Search for offers that match the configuration, the cheapest first."""
        found = await self.vendor.request(
            "POST", "/api/v0/bundles/", json=build_query(self.config), model=OfferList
        )
        cap = self.config.max_price_per_hour
        return [offer for offer in found.offers if offer.dph_total <= cap]

    async def create(self, offer: Offer, label: str, env: Mapping[str, str]) -> int:
        """Rent the offer under that label, with these variables for its container; returns the id of the instance.

        Raises:
            InstanceGoneError: the offer is no longer available.
            EngineUncertainError: it is unknown whether it is rented; find it by its label.
            EngineError: it is not rented.
        """
        path = f"/api/v0/asks/{offer.id}/"
        body = build_request(self.config, label, env)
        created = await self.vendor.submit_once("PUT", path, json=body, model=CreateResponse)
        if created.success and created.new_contract is not None:
            return created.new_contract
        message = f"{created.error or ''} {created.msg or ''}".strip()
        if "no_such_ask" in message:
            raise InstanceGoneError("vastai: the offer no longer exists")
        raise EngineUnavailableError(f"vastai refused to rent an instance: {message[:300]}")

    async def show(self, instance_id: int) -> Instance | None:
        """Fetch the instance's state; None if it no longer exists."""
        path = f"/api/v0/instances/{instance_id}/"
        try:
            shown = await self.vendor.request(
                "GET", path, params={"owner": "me"}, model=InstanceResponse
            )
        except InstanceGoneError:
            return None
        return shown.instances

    async def list_by_label(self) -> list[Instance]:
        """List all instances of the account whose label belongs to this engine."""
        mine: list[Instance] = []
        params: dict[str, str | int] = {"order_by": _PAGE_ORDER, "limit": _PAGE_SIZE}
        while True:
            page = await self.vendor.request(
                "GET", "/api/v1/instances/", params=params, model=InstancePage
            )
            start = f"{self.config.label}/"
            mine += [one for one in page.instances if (one.label or "").startswith(start)]
            if not page.next_token:
                return mine
            params["after_token"] = page.next_token

    async def destroy(self, instance_id: int) -> None:
        """Destroy the instance, which ends its costs; does nothing if it no longer exists."""
        try:
            await self.vendor.request("DELETE", f"/api/v0/instances/{instance_id}/", model=Ack)
        except InstanceGoneError:
            return


def build_query(config: VastaiConfig) -> dict[str, JSON]:
    """Build the search query, in the service's units."""
    query: dict[str, JSON] = {
        "num_gpus": {"eq": 1},
        "gpu_ram": {"gte": config.min_gpu_ram_gb * _MB_PER_GB},
        "reliability": {"gte": config.min_reliability},
        "direct_port_count": {"gte": 1},
        "inet_down": {"gte": config.min_download_mbps},
        "cuda_max_good": {"gte": config.min_cuda},
        "disk_space": {"gte": config.disk_gb},
        "dph_total": {"lte": config.max_price_per_hour},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "verified": {"eq": True},
        "external": {"eq": False},
        "type": "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": _MAX_OFFERS,
        "allocated_storage": config.disk_gb,
    }
    if config.gpu_names:
        names: list[JSON] = [name.replace("_", " ") for name in config.gpu_names]
        query["gpu_name"] = {
            "in": names
        }  # with underscores, as the command takes them, none matches
    return query


def build_request(config: VastaiConfig, label: str, env: Mapping[str, str]) -> dict[str, JSON]:
    """Build the request that creates an instance; `env` must be an object, or its ports are not mapped."""
    body: dict[str, JSON] = {
        "client_id": "me",
        "disk": config.disk_gb,
        "env": {**config.env, **env, f"-p {config.port}:{config.port}": "1"},
        "label": label,
        "target_state": "running",
        "cancel_unavail": True,
    }
    if config.template:
        return {**body, "template_hash_id": config.template}
    return {**body, "image": config.image, "runtype": "args", "args": list(config.args)}
