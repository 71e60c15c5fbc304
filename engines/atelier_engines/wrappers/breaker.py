"""Stops asking an engine that keeps failing, and tries it again after a while."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from atelier_engines.capabilities import Capabilities
from atelier_engines.engine import Engine
from atelier_engines.errors import (
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
)
from atelier_engines.event import Event
from atelier_engines.task import Task

_log = logging.getLogger(__name__)
_COUNTED_ERRORS = (
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
)

_MIN_RETRY_AFTER_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class BreakerEngine:
    """Opens after so many faults in a row: then it refuses at once, which `check` also says.

    After `rest_seconds` one task is let through while others are still refused: if it succeeds the
    breaker closes, if not it rests again. Faults of the task (invalid, filtered, too large) and runs
    that were closed do not count: they say nothing about the engine.
    """

    inner: Engine
    """The engine that does the work."""
    failure_threshold: int = 5
    """So many in a row open it."""
    reset_timeout_seconds: float = 30.0
    """How long it stays open."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; tests bring their own."""
    _consecutive_failures: int = field(default=0, init=False)
    _opened_at: float = field(default=0.0, init=False)
    _probing: bool = field(default=False, init=False)

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    async def start(self) -> None:
        """See Engine.start."""
        await self.inner.start()

    async def stop(self) -> None:
        """See Engine.stop."""
        await self.inner.stop()

    async def check(self) -> None:
        """See Engine.check.

        Raises:
            EngineUnavailableError: the breaker is open.
        """
        self._require_closed()
        await self.inner.check()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            EngineUnavailableError: the breaker is open; nothing was begun.
        """
        self._require_closed()
        trying = self._probing = self._is_open
        try:
            async with aclosing(self.inner.run(task)) as events:
                async for event in events:
                    yield event
        except _COUNTED_ERRORS:
            self._record_failure()
            raise
        else:
            if trying:
                _log.info("circuit_breaker_closed")
            self._consecutive_failures = 0
        finally:
            if trying:
                self._probing = False

    def _record_failure(self) -> None:
        self._consecutive_failures += 1
        self._opened_at = self.clock()
        if self._is_open:
            _log.warning(
                "circuit_breaker_opened",
                extra={
                    "failures": self._consecutive_failures,
                    "seconds": self.reset_timeout_seconds,
                },
            )

    @property
    def _is_open(self) -> bool:
        return self._consecutive_failures >= self.failure_threshold

    def _require_closed(self) -> None:
        """Return if a task may begin now: the breaker is closed, or has rested and none is trying."""
        if not self._is_open:
            return
        left = self._opened_at + self.reset_timeout_seconds - self.clock()
        if left <= 0 and not self._probing:
            return
        wait = max(left, _MIN_RETRY_AFTER_SECONDS)
        msg = f"it failed {self._consecutive_failures} times in a row and rests; try again in {wait:.0f} s"
        raise EngineUnavailableError(msg, retry_after_seconds=wait)
