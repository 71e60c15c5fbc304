"""The ComfyUI servers of one engine, with what they had at the start."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from atelier_engines.addresses import hide_secrets
from atelier_engines.errors import EngineFailedError, EngineUnavailableError
from atelier_engines.vendors.comfy_capabilities import Inventory
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.node_classes import ObjectInfo
from atelier_engines.vendors.late_cancels import LateCancels


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Clients of all configured servers, whether or not they responded at the start."""

    clients: Sequence[ComfyClient]
    """Clients in the order of the configuration."""
    inventory: Inventory
    """What all servers that responded have."""
    node_classes: ObjectInfo
    """Node classes of the first server that responded."""
    late_cancels: LateCancels
    """Cancellations that did not reach their server."""
    _turn: Iterator[int] = field(default_factory=itertools.count)

    async def close(self) -> None:
        """Close all connections."""
        await self.late_cancels.close()
        await close_all(self.clients)

    async def select(self) -> ComfyClient:
        """Return a responding server with the shortest queue; equal ones take turns.

        Raises:
            EngineUnavailableError: no server responds.
        """
        lengths = await queue_lengths(self.clients)
        shortest = min(lengths.values())
        free = [client for client, length in lengths.items() if length == shortest]
        return free[next(self._turn) % len(free)]

    def find(self, url: str) -> ComfyClient:
        """Return the server with that URL.

        Raises:
            EngineFailedError: it is no longer configured.
        """
        for client in self.clients:
            if client.url == url:
                return client
        raise EngineFailedError("comfyui: the job is lost: its server is no longer configured")


async def queue_lengths(clients: Sequence[ComfyClient]) -> dict[ComfyClient, int]:
    """Return the servers that respond, with their queue lengths.

    Raises:
        EngineUnavailableError: no server responds.
    """
    lengths = await asyncio.gather(*(client.queue_length() for client in clients))
    responding = {
        client: length
        for client, length in zip(clients, lengths, strict=True)
        if length is not None
    }
    if not responding:
        urls = ", ".join(hide_secrets(client.url) for client in clients)
        raise EngineUnavailableError(f"no ComfyUI server responds at {urls}")
    return responding


async def close_all(clients: Sequence[ComfyClient]) -> None:
    """Close the connections to all servers."""
    for client in clients:
        await client.close()
