"""A third-party engine: the prompt "die" kills the whole process, as a faulty driver would."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing

from atelier_engines.engine import EngineType
from atelier_engines.event import Event, Step
from atelier_engines.sketch.config import SketchConfig
from atelier_engines.sketch.engine import SketchEngine
from atelier_engines.task import Task


class LethalEngine(SketchEngine):
    """The sketch engine, until it is given the prompt "die"."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run."""
        async with aclosing(super().run(task)) as events:
            async for event in events:
                yield event
                if isinstance(event, Step) and task.prompt == "die":
                    os.kill(os.getpid(), signal.SIGKILL)


ENGINE = EngineType(config=SketchConfig, create=LethalEngine)
