"""What a store knows of all that there is to do, in every server that shares it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atelier.v1.generation_pb2 import Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineWork:
    """What there is to do for an engine."""

    waiting: int = 0
    """Generations in its queue."""
    running: int = 0
    """Generations that run."""
    cost: float = 0.0
    """Cost units of both, see estimates.cost_units."""


class WorkStore(Protocol):
    """The part of a store by which the number of servers is chosen."""

    async def list_work(self) -> Mapping[str, EngineWork]:
        """What there is to do, by engine; an engine without work may be left out."""

    async def list_newest_succeeded(self, limit: int) -> Sequence[tuple[Generation, float]]:
        """Of the `limit` generations that ended last those that succeeded, each with its cost units."""

    async def speaks_for_all(self) -> bool:
        """Whether this server is the one that exports what is the same for all servers that share the store."""
