"""grpc.health.v1 for the whole server (the empty name), the service, and every engine by its name."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from atelier_server.engines.status import EngineStatus

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = ("", "atelier.v1.GenerationService")


class Health:
    """Keeps the standard health service up to date."""

    def __init__(self) -> None:
        """Report everything as not serving."""
        self.servicer = health_aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()

    async def set_serving(self, accepting: bool) -> None:  # noqa: FBT001 (the state itself)
        """Report whether the server accepts generations."""
        for name in _SERVICES:
            await self.servicer.set(name, _SERVING if accepting else _NOT_SERVING)

    async def drain(self) -> None:
        """Report that the server accepts nothing new; this cannot be undone."""
        await self.servicer.enter_graceful_shutdown()

    def follow(self, engine: EngineStatus) -> None:
        """Report whether the engine is ready; to be subscribed to the statuses of all engines."""
        status = _SERVING if engine.ready else _NOT_SERVING
        task = asyncio.ensure_future(self.servicer.set(engine.name, status))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
