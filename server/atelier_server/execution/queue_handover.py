"""Moves what waits for an engine to its fallbacks, while the engine cannot take it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from atelier.v1.generation_pb2 import Generation
from atelier_server.admission.decide import Decider
from atelier_server.admission.parameters import describe_route
from atelier_server.admission.route import Route
from atelier_server.engines.status import EngineStatus
from atelier_server.engines.task_codec import encode_task
from atelier_server.errors import NotFoundError, ServiceError
from atelier_server.estimates.service_times import Work
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import Store, Waiting

_log = logging.getLogger(__name__)
_MAX_MOVED = 100  # in one call, so that other periodic work is not kept waiting


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueueHandover:
    """Hands over what no engine has begun; a generation that no fallback can do stays where it is."""

    store: Store
    decider: Decider
    _seen: dict[str, str] = field(default_factory=dict)
    """By engine the last generation that was looked at; the next call goes on behind it."""
    _unable: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)
    """By engine, for each generation, the fallbacks that were available and could not do it."""

    async def move_on(self, engine: EngineStatus) -> None:
        """Move up to 100 generations of the engine's queue; none while the engine takes them."""
        if not engine.hands_over:
            self._unable.pop(engine.name, None)
            return
        after = self._seen.pop(engine.name, "")
        page = await self.store.list_waiting(engine.name, after, _MAX_MOVED)
        if len(page) == _MAX_MOVED:
            self._seen[engine.name] = page[-1].generation.id
        for waiting in page:
            route = await self._find_route(engine, waiting)
            if route is not None:
                await self._move(waiting.generation, waiting.caller, route)

    async def _find_route(self, engine: EngineStatus, waiting: Waiting) -> Route | None:
        """A route to a fallback; what these fallbacks cannot do is decided once, since that may decode images."""
        generation, unable = waiting.generation, self._unable.setdefault(engine.name, {})
        tried = [before.engine for before in generation.receipt.attempts]
        available = self._find_available([*tried, engine.name])
        if not available or unable.get(generation.id) == available:
            return None
        try:
            route = await self.decider.decide_substitute(
                engine, waiting.request, waiting.caller, generation.id, tried
            )
        except ServiceError:
            route = None  # its input images are gone, which its engine will say
        if route is None:
            unable[generation.id] = available
        return route

    def _find_available(self, tried: Sequence[str]) -> frozenset[str]:
        """The names of the fallbacks of the engine tried first that are available and untried."""
        engines = self.decider.router.engines
        first = engines.get(tried[0])
        found = engines.find_fallbacks(first) if first is not None else ()
        return frozenset(fallback.name for fallback in found) - frozenset(tried)

    async def _move(self, before: Generation, caller: str, route: Route) -> None:
        moved = Generation()
        moved.CopyFrom(before)
        describe_route(route, moved)
        backlog = self.decider.router.engines.backlog
        work = Work.of(route.resolved.task)
        backlog.add(moved.id, moved.engine, work, caller, batch=is_batch(moved))
        is_moved = False
        try:
            is_moved = await self.store.move(
                before, moved, encode_task(route.resolved.task, route.resolved.finishing)
            )
        except NotFoundError:
            return
        finally:
            if not is_moved:
                backlog.remove(moved.id)
        fields = {"generation": moved.id, "engine": before.engine, "fallback": moved.engine}
        if is_moved:
            _log.warning("generation_moved", extra=fields)
