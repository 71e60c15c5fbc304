"""An engine that says what a test wants it to say, and keeps the tasks that reach it.

Servers in the test's own process find it by an entry point of the folder that `install` fills.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atelier_engines.capabilities import Capabilities
from atelier_engines.config import Section
from atelier_engines.engine import EngineType
from atelier_engines.event import Event
from atelier_engines.task import Task


class RecordingConfig(Section):
    """Which of the prepared engines it is."""

    script: str


@dataclass
class RecordingEngine:
    """Yields the events, whatever the task."""

    capabilities: Capabilities
    events: Sequence[Event] = ()
    tasks: list[Task] = field(default_factory=list)
    """What it was asked to do."""

    async def start(self) -> None:
        """See Engine.start."""

    async def check(self) -> None:
        """See Engine.check."""

    async def stop(self) -> None:
        """See Engine.stop."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run."""
        self.tasks.append(task)
        for event in self.events:
            yield event


SCRIPTS: dict[str, RecordingEngine] = {}
"""The engines that tests have prepared, by the name in the configuration."""

ENGINE: EngineType[RecordingConfig] = EngineType(
    config=RecordingConfig, create=lambda config: SCRIPTS[config.script]
)


def install(folder: Path) -> None:
    """Make the folder, once it is on `sys.path`, a place where the type `recording` is registered."""
    information = folder / "atelier_recording-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: atelier-recording\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(
        f"[atelier.engines]\nrecording = {__name__}:ENGINE\n"
    )
