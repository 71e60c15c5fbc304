"""Periodic work of a server: deletes what has expired, and measures the queues."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from atelier_server.assembly import Service
from atelier_server.clock import steady_time
from atelier_server.engines.status import EngineStatus
from atelier_server.metrics import BACKLOG_SECONDS, QUEUE_AGE_SECONDS, QUEUE_DEPTH

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0
_ORPHAN_INTERVAL_SECONDS = 3600.0


async def sweep_periodically(service: Service) -> None:
    """Sweep every second until cancelled. The first of several failures is logged; the next sweep tries again."""
    failing = False
    orphans_due = time.monotonic() + _ORPHAN_INTERVAL_SECONDS
    while True:
        await service.generations.storage.check()
        await service.health.refresh()
        try:
            await _sweep(service)
            if time.monotonic() >= orphans_due:
                orphans_due = time.monotonic() + _ORPHAN_INTERVAL_SECONDS
                # Files are dated by the wall clock: a change of it must not make them look old.
                now = min(time.time(), steady_time())
                await service.artifacts.delete_orphans(now)
        except Exception:  # noqa: BLE001 (the disk may be full now, and have room later)
            if not failing:
                _log.exception("sweep_failed")
            failing = True
        else:
            if failing:
                _log.info("sweep_recovered")
            failing = False
        await asyncio.sleep(_INTERVAL_SECONDS)


async def _sweep(service: Service) -> None:
    await service.artifacts.delete_expired()
    if service.registered is not None:
        await _learn_from_others(service)
    for name, status in _list_engines(service):
        queued = await service.store.queue_depth(name)
        QUEUE_DEPTH.labels(name).set(queued)
        QUEUE_AGE_SECONDS.labels(name).set(service.statuses.backlog.find_age(name))
        if queued:
            together = None if service.registered is None else service.registered.find(name)
            await service.handover.move_on(together or status)
        _show_backlog(name, service.statuses.estimate_end(status))


def _list_engines(service: Service) -> list[tuple[str, EngineStatus]]:
    """The engines of this server; of one that runs none, those of all servers."""
    own = [(supervisor.name, supervisor.status) for supervisor in service.supervisors]
    return own or list(service.statuses.items())


async def _learn_from_others(service: Service) -> None:
    """Take note of what was spent and paused at other servers."""
    pauses = await service.store.list_pauses()
    spent = [
        (supervisor, await service.store.spent_today(supervisor.name))
        for supervisor in service.supervisors
        if supervisor.status.budget.limit is not None
    ]
    for supervisor, amount in spent:
        supervisor.set_spending(amount)
    service.queues.show(pauses)


def _show_backlog(engine: str, seconds: float | None) -> None:
    """Show the estimate; an unknown one is left out, for 0 would say that there is nothing to do."""
    if seconds is not None:
        BACKLOG_SECONDS.labels(engine).set(seconds)
    else:
        with contextlib.suppress(KeyError):  # it was not shown
            BACKLOG_SECONDS.remove(engine)
