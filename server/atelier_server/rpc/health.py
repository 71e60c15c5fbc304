"""grpc.health.v1 for the whole server (the empty name), the service, and every engine by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from atelier_server.engines.status import EngineStatus, EngineStatuses

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = ("", "atelier.v1.GenerationService")


class Health:
    """Keeps the standard health service up to date."""

    def __init__(self, engines: EngineStatuses, *, is_ready: Callable[[], bool]) -> None:
        """Report every engine from now on; `is_ready` tells whether the server can do its work."""
        self.servicer = health_aio.HealthServicer()
        self._is_ready = is_ready
        self._tasks: set[asyncio.Task[None]] = set()
        for engine in engines.values():
            self._follow(engine)
        engines.subscribe(self._follow)

    async def refresh(self) -> None:
        """Report whether the server can do its work now."""
        status = _SERVING if self._is_ready() else _NOT_SERVING
        for name in _SERVICES:
            await self.servicer.set(name, status)

    async def drain(self) -> None:
        """Report that the server accepts nothing new; this cannot be undone."""
        await self.servicer.enter_graceful_shutdown()

    def _follow(self, engine: EngineStatus) -> None:
        """Report whether the engine is ready, and what that means for the server."""
        task = asyncio.ensure_future(self._report(engine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report(self, engine: EngineStatus) -> None:
        await self.servicer.set(engine.name, _SERVING if engine.ready else _NOT_SERVING)
        await self.refresh()
