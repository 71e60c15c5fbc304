"""Limits how much of a tenant's work may be unfinished: what waits for an engine, and what runs."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from atelier.v1.generation_pb2 import State
from atelier_engines.task import Task
from atelier_server.config.security_settings import TenantLimits
from atelier_server.errors import TenantQuotaError
from atelier_server.estimates.cost_units import count_cost_units
from atelier_server.store.protocol import (
    ENDED,
    Event,
    Query,
    Share,
    Store,
    Submission,
    SubmitResult,
)

_UNFINISHED = (State.STATE_QUEUED, State.STATE_RUNNING)


class TenantQuotas:
    """Counts what each tenant with a limit has under way; the store is asked once for each, after a start."""

    def __init__(self, store: Store, limits: TenantLimits) -> None:
        """Follow what ends from now on."""
        self._store = store
        self._limits = limits
        self._unfinished: defaultdict[str, set[str]] = defaultdict(set)
        self._tenants: dict[str, str] = {}
        self._known: set[str] = set()
        self._ended: set[str] = set()  # while the store is asked
        self._recalling = asyncio.Lock()
        store.observe(self._follow)

    def find_share(self, tenant: str, task: Task) -> Share:
        """What the decided task takes of the tenant's part of an engine."""
        return Share(cost=count_cost_units(task), weight=self._limits.find(tenant).weight)

    async def submit(self, submission: Submission) -> SubmitResult:
        """See Store.submit.

        Raises:
            TenantQuotaError: the tenant has as much under way as it may.
            ServiceError: as Store.submit.
        """
        tenant, generation_id = submission.caller, submission.generation.id
        if self._limits.find(tenant).max_unfinished is None:
            return await self._store.submit(submission)
        if (rejection := await self.find_rejection(tenant)) is not None:
            raise rejection
        self._add(tenant, generation_id)  # before events tell that it has ended
        created = False
        try:
            submitted = await self._store.submit(submission)
            created = submitted.created
            return submitted
        finally:
            if not created:
                self._remove(generation_id)

    async def find_rejection(self, tenant: str) -> TenantQuotaError | None:
        """The error of another submission of the tenant; None if it may have one more."""
        limit = self._limits.find(tenant).max_unfinished
        if limit is None:
            return None
        if tenant not in self._known:
            await self._recall(tenant)
        if len(self._unfinished[tenant]) < limit:
            return None
        return TenantQuotaError(
            tenant,
            f"tenant {tenant!r} may have {limit} generations that wait or run; wait until one has ended",
            retry_after_seconds=1.0,
        )

    async def _recall(self, tenant: str) -> None:
        """Count what an earlier process has left to be done."""
        async with self._recalling:
            self._ended.clear()
            before = ""
            while tenant not in self._known:
                query = Query(caller=tenant, limit=500, before=before, states=_UNFINISHED)
                page = await self._store.list(query)
                for generation in page.generations:
                    if generation.id not in self._ended:
                        self._add(tenant, generation.id)
                if page.complete:
                    self._known.add(tenant)
                else:
                    before = page.generations[-1].id

    def _follow(self, event: Event) -> None:
        if event.state in ENDED:
            if self._recalling.locked():
                self._ended.add(event.generation_id)
            self._remove(event.generation_id)

    def _add(self, tenant: str, generation_id: str) -> None:
        self._tenants[generation_id] = tenant
        self._unfinished[tenant].add(generation_id)

    def _remove(self, generation_id: str) -> None:
        tenant = self._tenants.pop(generation_id, None)
        if tenant is not None:
            self._unfinished[tenant].discard(generation_id)
