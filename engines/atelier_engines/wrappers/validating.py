"""Holds an engine to its interface, so that nothing above needs to distrust it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import assert_never

from atelier_engines import validation
from atelier_engines.capabilities import Capabilities
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError, EngineFailedError, EngineUnavailableError
from atelier_engines.event import Dispatched, Event, Output, Stage, Step
from atelier_engines.task import Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ValidatingEngine:
    """Refuses tasks outside the capabilities, and lets out no errors but EngineError."""

    inner: Engine
    """The engine that does the work."""

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    async def start(self) -> None:
        """See Engine.start. An exception of the engine's own is EngineUnavailableError."""
        with _translate_errors("start"):
            await self.inner.start()

    async def check(self) -> None:
        """See Engine.check. An exception of the engine's own is EngineUnavailableError."""
        with _translate_errors("check"):
            await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            InvalidTaskError: a number lies outside the limits; nothing was begun.
            UnsupportedError: a needed feature is missing; nothing was begun.
            EngineFailedError: the engine raised something of its own, went backwards, or ended
                without Output.
        """
        validation.validate(self.capabilities, task)
        step = outputs = 0
        try:
            async with aclosing(self.inner.run(task)) as events:
                async for event in events:
                    match event:
                        case Step():
                            step = _require_forward(step, event.index)
                        case Output():
                            outputs += 1
                        case Stage() | Dispatched():
                            pass
                        case _:
                            assert_never(event)
                    yield event
        except EngineError:
            raise
        except Exception as error:
            _log.exception("the engine raised an exception of its own")
            msg = "the engine failed for a reason of its own; the server's log has it"
            raise EngineFailedError(msg) from error
        if not outputs:
            raise EngineFailedError("the engine ended without an output")


def _require_forward(before: int, now: int) -> int:
    if now <= before:
        raise EngineFailedError(f"the engine's progress went from step {before} to {now}")
    return now


@contextmanager
def _translate_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        _log.exception("the engine's %s raised an exception of its own", doing)
        msg = f"the engine's {doing} failed for a reason of its own; the server's log has it"
        raise EngineUnavailableError(msg) from error
