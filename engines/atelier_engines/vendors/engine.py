"""Base of engines of remote services: a connection between start and stop, and image tasks only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import ClassVar, Generic, Protocol, TypeVar

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event
from atelier_engines.task import AudioTask, ImageTask, Task


class Closable(Protocol):
    """What an engine holds while it is started: one client, or an object with several."""

    async def close(self) -> None:
        """Close all connections."""


ConnectionT = TypeVar("ConnectionT", bound=Closable)


class RemoteEngine(ABC, Generic[ConnectionT]):
    """An engine that runs image tasks over a connection to a remote service."""

    name: ClassVar[str]
    """Name of the service in error messages."""

    def __init__(self, capabilities: Capabilities) -> None:
        """Connect to nothing yet."""
        self._capabilities = capabilities
        self._open: ConnectionT | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start."""
        self._open = await self._connect()

    @abstractmethod
    async def check(self) -> None:
        """See Engine.check."""

    async def stop(self) -> None:
        """See Engine.stop."""
        connection, self._open = self._open, None
        if connection is not None:
            await connection.close()

    def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            UnsupportedError: it is an audio task.
        """
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", f"{self.name} does not support audio tasks")
        return self._run_image(task)

    @abstractmethod
    async def _connect(self) -> ConnectionT:
        """Make the connection; network traffic may wait for the first request."""

    @abstractmethod
    def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        """Run an image task; see Engine.run."""

    @property
    def _connection(self) -> ConnectionT:
        if self._open is None:
            raise EngineUnavailableError(f"the {self.name} engine has not been started")
        return self._open
