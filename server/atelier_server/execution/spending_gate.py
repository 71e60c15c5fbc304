"""Lets the workers of an engine begin no more than its daily budget permits, whatever was accepted before."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from atelier_server.admission.cost import estimate_price
from atelier_server.engines.recall import BLANK_IMAGES
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.engines.task_codec import UnreadableTaskError, decode_task
from atelier_server.estimates.service_times import Work
from atelier_server.store.protocol import Claim, Store

_RECHECK_SECONDS = 1.0  # nothing tells that a day begins


@dataclass(slots=True, eq=False)
class SpendingGate:
    """Claims for all workers of one engine, one at a time, so that each sees what the others may spend.

    Nothing begins once the cost of what has ended today and of what runs reaches the budget. What waits then stays in
    the queue, for the next day or a fallback. A remote job that was begun is paid already: it always goes on.
    """

    supervisor: EngineSupervisor
    store: Store
    _running: dict[str, float] = field(default_factory=dict)
    """Expected cost of each generation that runs."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def claim(self, engine: str) -> Claim:
        """As `Store.claim`, once the budget permits; the worker calls `settle` when it has ended."""
        async with self._turn:
            claim = await self._claim_permitted(engine)
            self._running[claim.generation.id] = self._estimate(claim)
        return claim

    def settle(self, claim: Claim) -> None:
        """Take note that the generation does not run any more: what it has cost is in the status."""
        self._running.pop(claim.generation.id, None)
        self._settled.set()

    async def _claim_permitted(self, engine: str) -> Claim:
        while not self._permits():
            claim = await self.store.claim_begun(engine)
            if claim is not None:
                return claim
            self._settled.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), _RECHECK_SECONDS)
        return await self.store.claim(engine)

    def _permits(self) -> bool:
        budget = self.supervisor.status.budget
        spent = budget.spent_today + sum(self._running.values())
        return budget.limit is None or spent < budget.limit

    def _estimate(self, claim: Claim) -> float:
        """What the task will cost, as far as that is known."""
        status = self.supervisor.status
        try:
            task = decode_task(claim.task, BLANK_IMAGES)
        except UnreadableTaskError:  # the attempt decides it, or says so
            return 0.0
        seconds = status.times.estimate(Work.of(task), time.monotonic()).expected
        return estimate_price(status, task, seconds) or 0.0
