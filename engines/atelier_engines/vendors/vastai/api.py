"""The calls of Vast.ai that renting takes.

Source: documentation of the API (docs.vast.ai, api-reference) and the SDK `vastai` 1.9.1, read in August 2026.
"""

from __future__ import annotations

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
from atelier_engines.vendors.vastai.wire import (
    Created,
    Done,
    Instance,
    Listed,
    Offer,
    Offers,
    Shown,
)

NAME = "vastai"
_OFFERS = 20
_PAGE = 25
_MB = 1000  # in a GB, as the service counts the memory of GPUs
_GONE = frozenset({404, 410})
_TOO_MANY = 429
_POOR = ("credit", "balance", "insufficient")


class GoneError(EngineFailedError):
    """The offer or instance is not there any more."""


def refusal(found: Response) -> EngineError | None:
    """What the service words in its own way; status and wording disagree at times.

    What is gone is told by 404, 410 or `no_such_ask`; an empty account by the text of a 400 or 403; a
    quota of searches for the day by `search_quota_exceeded`, which waiting does not cure.
    """
    text = found.body.decode(errors="replace").lower()
    if found.status in _GONE or "no_such_ask" in text:
        return GoneError("vastai says that it is not there any more")
    if found.status == _TOO_MANY and "search_quota_exceeded" in text:
        return EngineQuotaError("vastai answers no more searches today (search_quota_exceeded)")
    if found.status in {400, 403} and any(word in text for word in _POOR):
        return EngineQuotaError("vastai says that the account has no credit left")
    return None


@dataclass(frozen=True, slots=True)
class VastApi:
    """The service, as one account sees it."""

    vendor: VendorClient
    config: VastaiConfig

    async def search(self) -> list[Offer]:
        """Offers that satisfy the configuration, the cheapest first."""
        found = await self.vendor.request(
            "POST", "/api/v0/bundles/", json=query_from(self.config), model=Offers
        )
        cap = self.config.max_price_per_hour
        return [offer for offer in found.offers if offer.dph_total <= cap]

    async def create(self, offer: Offer, label: str) -> int:
        """Rent the offer under that label; returns the id of the instance.

        Raises:
            GoneError: somebody else has it.
            EngineUncertainError: nobody knows whether it is rented; find it by its label.
            EngineError: it is not rented.
        """
        path = f"/api/v0/asks/{offer.id}/"
        body = order_from(self.config, label)
        made = await self.vendor.submit_once("PUT", path, json=body, model=Created)
        if made.success and made.new_contract is not None:
            return made.new_contract
        says = f"{made.error or ''} {made.msg or ''}".strip()
        if "no_such_ask" in says:
            raise GoneError("vastai says that the offer is not there any more")
        raise EngineUnavailableError(f"vastai would not rent a machine: {says[:300]}")

    async def show(self, instance_id: int) -> Instance | None:
        """The instance as it stands; None when it is gone."""
        path = f"/api/v0/instances/{instance_id}/"
        try:
            shown = await self.vendor.request("GET", path, params={"owner": "me"}, model=Shown)
        except GoneError:
            return None
        return shown.instances

    async def labelled(self) -> list[Instance]:
        """Every instance of the account that bears a label of this engine."""
        mine: list[Instance] = []
        params: dict[str, str | int] = {"limit": _PAGE}
        while True:
            page = await self.vendor.request(
                "GET", "/api/v1/instances/", params=params, model=Listed
            )
            start = f"{self.config.label}/"
            mine += [one for one in page.instances if (one.label or "").startswith(start)]
            if not page.next_token:
                return mine
            params["after_token"] = page.next_token

    async def destroy(self, instance_id: int) -> None:
        """End the instance and its bill; one that is gone already is no error."""
        try:
            await self.vendor.request("DELETE", f"/api/v0/instances/{instance_id}/", model=Done)
        except GoneError:
            return


def query_from(config: VastaiConfig) -> dict[str, JSON]:
    """The search, in the service's native units."""
    query: dict[str, JSON] = {
        "num_gpus": {"eq": 1},
        "gpu_ram": {"gte": config.min_gpu_ram_gb * _MB},
        "reliability": {"gte": config.min_reliability},
        "direct_port_count": {"gte": 1},
        "inet_down": {"gte": config.min_download_mbps},
        "cuda_max_good": {"gte": config.min_cuda},
        "disk_space": {"gte": config.disk_gb},
        "dph_total": {"lte": config.max_price_per_hour},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "verified": {"eq": True},
        "type": "on-demand",
        "order": [["dph_total", "asc"]],
        "limit": _OFFERS,
        "allocated_storage": config.disk_gb,
    }
    if config.gpu_names:
        query["gpu_name"] = {"in": list(config.gpu_names)}
    return query


def order_from(config: VastaiConfig, label: str) -> dict[str, JSON]:
    """The creation. Ports are asked for in the environment, which must be an object: text maps none."""
    order: dict[str, JSON] = {
        "client_id": "me",
        "disk": config.disk_gb,
        "env": {**config.env, f"-p {config.port}:{config.port}": "1"},
        "label": label,
        "target_state": "running",
        "cancel_unavail": True,
    }
    if config.template:
        return {**order, "template_hash_id": config.template}
    return {**order, "image": config.image, "runtype": "args", "args": list(config.args)}
