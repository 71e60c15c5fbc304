"""A circuit breaker around an engine: rejects tasks after repeated failures, and probes it later."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from atelier_engines.capabilities import Capabilities
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError, EngineTimeoutError, EngineUnavailableError
from atelier_engines.event import Event, Step
from atelier_engines.task import Task

_log = logging.getLogger(__name__)
_MIN_RETRY_AFTER_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class BreakerEngine:
    """Opens after `failure_threshold` consecutive failures: tasks are rejected at once, and `check` fails.

    After `reset_timeout_seconds` one task is let through as a probe while others are still rejected: if it
    succeeds the breaker closes, if it fails the timeout starts again. Only faults of the engine count, see
    `EngineError.engine_at_fault`; a run that was closed says nothing about the engine, and neither does a timeout
    of a task that made steps: it was too large for the time allowed.
    """

    inner: Engine
    """The engine that does the work."""
    failure_threshold: int = 5
    """Number of consecutive failures that open it."""
    reset_timeout_seconds: float = 30.0
    """How long it stays open before a probe."""
    clock: Callable[[], float] = time.monotonic
    """Returns the time in seconds; tests pass their own clock."""
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
        trying = self._probing = self.is_open
        made_steps = False
        try:
            async with aclosing(self.inner.run(task)) as events:
                async for event in events:
                    made_steps = made_steps or isinstance(event, Step)
                    yield event
        except EngineError as error:
            if error.engine_at_fault and not (made_steps and isinstance(error, EngineTimeoutError)):
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
        if self.is_open:
            _log.warning(
                "circuit_breaker_opened",
                extra={
                    "failures": self._consecutive_failures,
                    "seconds": self.reset_timeout_seconds,
                },
            )

    @property
    def is_open(self) -> bool:
        """Whether tasks are rejected, but for one that probes the engine."""
        return self._consecutive_failures >= self.failure_threshold

    def _require_closed(self) -> None:
        """Return if a task may begin now: the breaker is closed, or a probe is due and none is running."""
        if not self.is_open:
            return
        left = self._opened_at + self.reset_timeout_seconds - self.clock()
        if left <= 0 and not self._probing:
            return
        wait = max(left, _MIN_RETRY_AFTER_SECONDS)
        msg = f"circuit breaker open after {self._consecutive_failures} failures; retry in {wait:.0f} s"
        raise EngineUnavailableError(msg, retry_after_seconds=wait)
