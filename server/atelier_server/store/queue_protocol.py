"""What a store does for those who run the server: it keeps engines paused, and clears queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from atelier.v1.engine_pb2 import EnginePause
from atelier_server.store.work_protocol import WorkStore


class QueueStore(WorkStore, Protocol):
    """The part of a store that acts on the whole queue of an engine, of all callers."""

    async def pause(self, engine: str, reason: str) -> EnginePause:
        """Keep workers from claiming what waits for the engine, until `resume`; durable when this returns.

        What has a remote job is claimed all the same. If it is paused already, the reason is replaced.
        """

    async def resume(self, engine: str) -> bool:
        """Let workers claim what waits for the engine; whether it was paused."""

    async def list_pauses(self) -> Mapping[str, EnginePause]:
        """The pauses that last, by engine, whether it still exists or not."""

    async def clear_queue(self, engine: str, reason: str) -> int:
        """End everything that waits for the engine now as CANCELLED, for that reason; how many that were."""
