"""What each tenant may have, by the configuration: its share of engines, and its quotas, which the store keeps."""

from __future__ import annotations

from atelier_engines.task import Task
from atelier_server.config.security_settings import TenantLimits
from atelier_server.errors import TenantQuotaError
from atelier_server.estimates.cost_units import count_cost_units
from atelier_server.store.protocol import Store
from atelier_server.store.quotas import Allowance, Share, require_allowed, require_storage


class TenantQuotas:
    """The limits of the tenants, in the terms of the store."""

    def __init__(self, store: Store, limits: TenantLimits) -> None:
        """Take the limits for what the store has."""
        self._store = store
        self._limits = limits

    def find_share(self, tenant: str, task: Task) -> Share:
        """What the decided task takes of the tenant's part of an engine."""
        return Share(cost=count_cost_units(task), weight=self._limits.find(tenant).weight)

    def find_allowance(self, tenant: str) -> Allowance | None:
        """How much the tenant may have; None without limits."""
        limits = self._limits.find(tenant)
        allowance = Allowance(
            max_unfinished=limits.max_unfinished,
            max_queued=limits.max_queued,
            max_queued_cost=limits.max_queued_cost,
            daily_cost=limits.daily_cost,
            daily_budget=limits.daily_budget,
            max_stored_bytes=limits.max_stored_bytes,
        )
        return None if allowance == _UNLIMITED else allowance

    async def find_rejection(self, tenant: str, task: Task) -> TenantQuotaError | None:
        """The error of a submission of the task; None if the tenant may have it."""
        allowance = self.find_allowance(tenant)
        if allowance is None:
            return None
        usage = await self._store.find_usage(tenant, allowance)
        try:
            require_allowed(tenant, allowance, usage, count_cost_units(task))
        except TenantQuotaError as error:
            return error
        return None

    async def require_storage(self, tenant: str) -> None:
        """Return if the tenant may store an upload.

        Raises:
            TenantQuotaError: it has stored as much as it may.
        """
        allowance = self.find_allowance(tenant)
        if allowance is not None and allowance.max_stored_bytes is not None:
            usage = await self._store.find_usage(tenant, allowance)
            require_storage(tenant, allowance, usage)


_UNLIMITED = Allowance()
