"""Pauses and resumes engines, and clears their queues, for those who run the server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from atelier.v1.engine_pb2 import EnginePause
from atelier_server.engines.status import EngineStatuses
from atelier_server.store.protocol import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineQueues:
    """Acts on the queue of an engine as a whole; each method raises UnknownEngineError where there is none."""

    store: Store
    engines: EngineStatuses

    @classmethod
    async def open(cls, store: Store, engines: EngineStatuses, *, shares_store: bool) -> Self:
        """Show the pauses that an earlier process has left; those of engines that were removed end.

        Where other servers use the store, too, none is known to be removed.
        """
        queues = cls(store=store, engines=engines)
        for name, pause in (await store.list_pauses()).items():
            if name in engines:
                queues._publish(name, pause)
            elif not shares_store:
                await store.resume(name)
        return queues

    async def pause(self, name: str, reason: str) -> EnginePause:
        """Let the engine begin nothing more; what it runs goes on."""
        self.engines.require(name)
        pause = await self.store.pause(name, reason)
        self._publish(name, pause)
        _log.warning("engine_paused", extra={"engine": name})
        return pause

    async def resume(self, name: str) -> bool:
        """Let the engine begin what waits for it; whether it was paused."""
        self.engines.require(name)
        was_paused = await self.store.resume(name)
        self._publish(name, None)
        if was_paused:
            _log.info("engine_resumed", extra={"engine": name})
        return was_paused

    async def clear(self, name: str, reason: str) -> int:
        """Cancel everything that waits for the engine; how many that were."""
        if name not in await self.store.list_queued_engines():
            self.engines.require(name)
        cancelled = await self.store.clear_queue(name, reason)
        _log.warning("queue_cleared", extra={"engine": name, "cancelled": cancelled})
        return cancelled

    def show(self, pauses: Mapping[str, EnginePause]) -> None:
        """Show these pauses and no others: they may have begun or ended at another server."""
        for name, engine in self.engines.items():
            if engine.pause != pauses.get(name):
                self._publish(name, pauses.get(name))

    def _publish(self, name: str, pause: EnginePause | None) -> None:
        self.engines.publish(replace(self.engines[name], pause=pause))
