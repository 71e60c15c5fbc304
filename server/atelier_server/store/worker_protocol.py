"""What servers that share a database tell each other about the engines that they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a server tells of one of its engines; the store does not look into the bytes."""

    engine: str
    """Name of the engine."""
    place: int
    """Its place in the configuration of the server, from 0."""
    offer: bytes
    """What the engine can do, which changes seldom."""
    load: bytes
    """Its state and its load, which change often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What is known of an engine of a server."""

    worker: int
    """Number of the server's process; greater than that of every process that started earlier."""
    registration: Registration
    """What it has told last."""
    alive: bool
    """Whether its lease lasts."""
    silent_seconds: float
    """How long ago it has told that, by the clock of the database."""


class WorkerRegistry(Protocol):
    """The engines of all servers that share a database."""

    async def register(self, engines: Sequence[Registration]) -> None:
        """Tell what this server runs, in place of what it has told of these engines before.

        That holds as long as the server's lease, whatever the server does.

        Raises:
            StorageError: the database cannot be written.
        """

    async def list_registered(self) -> Sequence[Registered]:
        """What all servers have told, the earliest process first.

        Of servers that have died also, for a day, but only as long as no other server has registered that engine.

        Raises:
            StorageError: the database cannot be read.
        """
