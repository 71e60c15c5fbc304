"""Tells other servers what this one runs, and shows the engines that run elsewhere as if they ran here.

An engine is what its workers are together: ready when one of them is, with the slots of all that are. Where they
differ, it can do what all of them can (`shared_capabilities`). One whose workers have all gone is loading at first,
then unavailable: it takes nothing new, what waits for it stays, and its fallbacks take over when it has been gone for
long. It is unknown after a day.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Self

from atelier.v1.engine_pb2 import EngineState
from atelier_engines.capabilities import Capabilities
from atelier_server.engines.offers import (
    Load,
    Offer,
    UnreadableOfferError,
    decode_load,
    decode_offer,
    encode,
)
from atelier_server.engines.shared_capabilities import (
    NothingInCommonError,
    find_common,
    list_differences,
)
from atelier_server.engines.status import DailyBudget, EngineStatus, EngineStatuses
from atelier_server.errors import StorageError
from atelier_server.estimates.service_times import ServiceTimes
from atelier_server.metrics import WORKERS
from atelier_server.store.worker_protocol import Registered, Registration, WorkerRegistry

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0
_RENEWAL_SECONDS = 5.0  # what is told again lasts, whatever others have forgotten meanwhile
_GONE = "gone"
_STATES: Mapping[int, str] = {
    EngineState.ENGINE_STATE_READY: "ready",
    EngineState.ENGINE_STATE_LOADING: "loading",
    EngineState.ENGINE_STATE_UNAVAILABLE: "unavailable",
    EngineState.ENGINE_STATE_DRAINING: "draining",
}
"""The best first: an engine is in the best state of its workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWorker:
    """An engine at one server, as that has registered it."""

    offer: Offer
    load: Load
    place: int
    alive: bool
    silent_seconds: float


class RegisteredEngines:
    """The engines of all servers that share a database; this process runs some of them, or none."""

    def __init__(
        self, registry: WorkerRegistry, statuses: EngineStatuses, own: Sequence[str]
    ) -> None:
        """Tell of the engines that are `own`, and publish the status of every other one."""
        self._registry = registry
        self._statuses = statuses
        self._own = tuple(own)
        self._told: tuple[EngineStatus, ...] = ()
        self._told_at = 0.0
        self._together: dict[str, EngineStatus] = {}
        self._differences: dict[str, list[str]] = {}
        self._changed = asyncio.Event()
        statuses.subscribe(lambda status: self._changed.set() if status.name in own else None)

    @classmethod
    async def open(
        cls, registry: WorkerRegistry, statuses: EngineStatuses, own: Sequence[str]
    ) -> Self:
        """Tell and look once, so that what is known elsewhere is known here.

        Raises:
            StorageError: the database cannot be written or read.
        """
        registered = cls(registry, statuses, own)
        await registered.tell()
        await registered.look()
        return registered

    async def run(self) -> None:
        """Tell and look every second, and tell at once when an engine changes its state; until cancelled."""
        while True:
            with suppress(StorageError):  # the lease lasts, and the next time comes soon
                await self.tell()
                await self.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _INTERVAL_SECONDS)

    async def tell(self) -> None:
        """Register what this process runs, if it has changed.

        Raises:
            StorageError: the database cannot be written.
        """
        self._changed.clear()
        now = time.monotonic()
        statuses = tuple(self._statuses[name] for name in self._own)
        is_news = any(one is not other for one, other in zip_longest(statuses, self._told))
        if is_news or now - self._told_at >= _RENEWAL_SECONDS:
            await self._registry.register(
                [_to_registration(status, place, now) for place, status in enumerate(statuses)]
            )
            self._told, self._told_at = statuses, now

    async def look(self) -> None:
        """Publish what other servers have registered.

        Raises:
            StorageError: the database cannot be read.
        """
        workers = _group(await self._registry.list_registered())
        now = time.monotonic()
        for name in self._together.keys() - workers.keys():
            _forget(name)
        self._together = {name: _put_together(name, found, now) for name, found in workers.items()}
        for name, found in workers.items():
            self._note_differences(name, found)
            _count(name, found)
        for name, status in self._together.items():
            if name not in self._own:
                before = self._statuses.get(name)
                self._statuses.publish(replace(status, pause=before.pause if before else None))
        others = sorted(
            (name for name in workers if name not in self._own),
            key=lambda name: (min(each.place for each in workers[name]), name),
        )
        self._statuses.arrange([*self._own, *others])

    def find(self, name: str) -> EngineStatus:
        """What the engine's workers at all servers are together, with its pause."""
        status = self._statuses[name]
        together = self._together.get(name)
        return status if together is None else replace(together, pause=status.pause)

    def _note_differences(self, name: str, workers: Sequence[EngineWorker]) -> None:
        found = list_differences([each.offer.capabilities for each in _choose(workers)])
        if found != self._differences.get(name, []):
            _log.warning("workers_differ", extra={"engine": name, "fields": ", ".join(found)})
        self._differences[name] = found


def _to_registration(status: EngineStatus, place: int, now: float) -> Registration:
    budget = status.budget
    offer = Offer(
        type=status.type,
        capabilities=status.capabilities,
        queue_limit=status.queue_limit,
        required=status.required,
        fallbacks=status.fallbacks,
        daily_budget=budget.limit,
        max_loading_seconds=status.max_loading_seconds,
    )
    load = Load(
        state=status.state,
        message=status.message,
        running=status.running,
        retry_seconds=0.0 if status.ready else max(0.0, round(status.retry_at - now, 1)),
        loading_seconds=0.0 if status.ready else max(0.0, round(status.loading_ends - now, 1)),
        spent_today=budget.spent_today,
        times=status.times.list_newest(now),
    )
    return Registration(engine=status.name, place=place, offer=encode(offer), load=encode(load))


def _group(registered: Sequence[Registered]) -> dict[str, list[EngineWorker]]:
    """The workers of each engine; what another version has told in a way that is not understood is left out."""
    found: defaultdict[str, list[EngineWorker]] = defaultdict(list)
    for each in registered:
        told = each.registration
        try:
            offer, load = decode_offer(told.offer), decode_load(told.load)
        except UnreadableOfferError as error:
            _log.warning(
                "registration_unreadable", extra={"engine": told.engine, "error": str(error)}
            )
            continue
        found[told.engine].append(
            EngineWorker(
                offer=offer,
                load=load,
                place=told.place,
                alive=each.alive,
                silent_seconds=each.silent_seconds,
            )
        )
    return found


def _choose(workers: Sequence[EngineWorker]) -> Sequence[EngineWorker]:
    """The workers that are in the best state that one of them is in; what others can do is of no account now."""
    alive = [each for each in workers if each.alive]
    for state in _STATES:
        if chosen := [each for each in alive if each.load.state == state]:
            return chosen
    return alive or workers


def _put_together(name: str, workers: Sequence[EngineWorker], now: float) -> EngineStatus:
    chosen = _choose(workers)
    newest = chosen[-1]  # its configuration is the latest
    alive = [each for each in workers if each.alive]
    status = EngineStatus(
        name=name,
        type=newest.offer.type,
        capabilities=newest.offer.capabilities,
        state=EngineState.ValueType(newest.load.state),
        message=newest.load.message,
        running=sum(each.load.running for each in alive),
        times=_combine_times(workers, now),
        budget=DailyBudget(limit=newest.offer.daily_budget).add(
            max(each.load.spent_today for each in workers)
        ),
        queue_limit=newest.offer.queue_limit,
        required=any(each.offer.required for each in chosen),
        fallbacks=newest.offer.fallbacks,
        max_loading_seconds=newest.offer.max_loading_seconds,
        retry_at=now + min(each.load.retry_seconds - each.silent_seconds for each in chosen),
        loading_ends=now + max(each.load.loading_seconds - each.silent_seconds for each in chosen),
    )
    if not newest.alive or newest.load.state == EngineState.ENGINE_STATE_DRAINING:
        return _to_gone(status, newest, now)
    try:
        return replace(status, capabilities=_find_common(chosen))
    except NothingInCommonError:
        return replace(
            status,
            state=EngineState.ENGINE_STATE_UNAVAILABLE,
            message="its workers have nothing in common that they can do: configure them alike",
        )


def _find_common(workers: Sequence[EngineWorker]) -> Capabilities:
    return find_common([each.offer.capabilities for each in workers])


def _to_gone(status: EngineStatus, last: EngineWorker, now: float) -> EngineStatus:
    """The status of an engine whose last worker has gone, or is about to go: another may come soon."""
    left = status.max_loading_seconds - (0.0 if last.alive else last.silent_seconds)
    return replace(
        status,
        state=EngineState.ENGINE_STATE_LOADING
        if left > 0
        else EngineState.ENGINE_STATE_UNAVAILABLE,
        message="no worker runs it now",
        running=0 if not last.alive else status.running,
        retry_at=now + 1.0,
        loading_ends=now + left,
    )


def _combine_times(workers: Sequence[EngineWorker], now: float) -> ServiceTimes:
    """What all have measured; the age of that grows while they tell nothing."""
    measured = [
        replace(each, age=each.age + worker.silent_seconds)
        for worker in workers
        for each in worker.load.times
    ]
    return ServiceTimes.combine(measured, now)


def _count(name: str, workers: Sequence[EngineWorker]) -> None:
    counts = Counter(
        _STATES.get(each.load.state, _GONE) if each.alive else _GONE for each in workers
    )
    for state in (*_STATES.values(), _GONE):
        WORKERS.labels(name, state).set(counts[state])


def _forget(name: str) -> None:
    for state in (*_STATES.values(), _GONE):
        with suppress(KeyError):
            WORKERS.remove(name, state)
