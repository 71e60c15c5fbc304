"""Enforces an engine's interface, so that callers can rely on it."""

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
    """Rejects tasks outside the capabilities, and translates other exceptions to EngineError."""

    inner: Engine
    """The engine that does the work."""

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    async def start(self) -> None:
        """See Engine.start. Unexpected exceptions become EngineUnavailableError."""
        with _translate_errors("start"):
            await self.inner.start()

    async def check(self) -> None:
        """See Engine.check. Unexpected exceptions become EngineUnavailableError."""
        with _translate_errors("check"):
            await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            InvalidTaskError: a number is outside the limits; no work was begun.
            UnsupportedError: a required feature is missing; no work was begun.
            EngineFailedError: the engine raised an unexpected exception, its steps went backwards, or it
                ended without an Output.
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
            _log.exception("engine_run_crashed")
            msg = "the engine raised an unexpected exception; see the server's log"
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
        _log.exception("engine_call_crashed", extra={"call": doing})
        msg = f"the engine's {doing} raised an unexpected exception; see the server's log"
        raise EngineUnavailableError(msg) from error
