"""grpc.health.v1 for the whole server (the empty name), the service, every engine by its name, and for liveness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from atelier_server.engines.status import EngineStatus, EngineStatuses

LIVENESS = "atelier/liveness"
"""A name that no engine can have: it is SERVING as long as the server answers, whatever its engines do."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = ("", "atelier.v1.GenerationService")


class Health:
    """Keeps the standard health service up to date."""

    def __init__(self, engines: EngineStatuses, *, is_ready: Callable[[], bool]) -> None:
        """Report every engine from now on; `is_ready` tells whether the server can do its work."""
        self.servicer = health_aio.HealthServicer()
        self._is_ready = is_ready
        self._draining = False
        self._setting = asyncio.Lock()
        self._reported: set[str] = set(_SERVICES)
        self._tasks: set[asyncio.Task[None]] = set()
        for engine in engines.values():
            self._follow(engine)
        engines.subscribe(self._follow)

    async def refresh(self) -> None:
        """Report whether the server can do its work now."""
        await self.servicer.set(LIVENESS, _SERVING)
        for name in _SERVICES:
            await self._set(name, is_serving=self._is_ready())

    async def drain(self) -> None:
        """Report that the server accepts nothing new; this cannot be undone. It is alive all the same."""
        self._draining = True
        for name in sorted(self._reported):
            await self._set(name, is_serving=False)

    async def _set(self, name: str, *, is_serving: bool) -> None:
        """Report a status; one that was found before the drain does not come after it."""
        async with self._setting:
            self._reported.add(name)
            status = _SERVING if is_serving and not self._draining else _NOT_SERVING
            await self.servicer.set(name, status)

    def _follow(self, engine: EngineStatus) -> None:
        """Report whether the engine is ready, and what that means for the server."""
        task = asyncio.ensure_future(self._report(engine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, engine: EngineStatus) -> None:
        await self._set(engine.name, is_serving=engine.ready)
        await self.refresh()
