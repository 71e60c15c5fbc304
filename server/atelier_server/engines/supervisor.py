"""Owns one live engine: starts, checks and stops it, and publishes its status."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress

from atelier.v1.engine_pb2 import EngineState
from atelier.v1.generation_pb2 import Cost
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError, EngineUnavailableError
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.engines.hidden_paths import hide_paths
from atelier_server.engines.status import DailyBudget, EngineStatus, EngineStatuses
from atelier_server.estimates.service_times import Work
from atelier_server.metrics import COST, ENGINE_UP, IN_FLIGHT, RUNTIME_FALLBACKS, gauge

_log = logging.getLogger(__name__)
_RETRY_SECONDS = (1, 2, 5, 15, 60)  # between attempts to start the engine; the last one repeats


class EngineSupervisor:
    """The one owner of an engine. Workers run tasks on it; everybody else reads the published status."""

    def __init__(
        self, name: str, settings: EngineSettings, engine: Engine, statuses: EngineStatuses
    ) -> None:
        """Publish the engine as loading; `supervise` starts it."""
        self.name = name
        self.engine = engine
        self.ready = asyncio.Event()
        """Set while the engine takes generations."""
        self.idle = asyncio.Event()
        """Set while no generation runs on it."""
        self.idle.set()
        self.check_requested = asyncio.Event()
        """Set it to have the engine checked at once instead of at the next interval."""
        self.hide = hide_paths(settings.config)
        """Takes the paths of its configuration out of what callers are told."""
        self._statuses = statuses
        self._wanted_delay = 0.0  # seconds, as the engine said when it failed last
        statuses.publish(
            EngineStatus(
                name=name,
                type=settings.type,
                capabilities=engine.capabilities,
                budget=DailyBudget(limit=settings.daily_budget),
                queue_limit=settings.queue_limit,
                required=settings.required,
                fallbacks=tuple(settings.fallbacks),
                max_loading_seconds=settings.max_loading_seconds,
                loading_ends=time.monotonic() + settings.max_loading_seconds,
            )
        )

    @property
    def status(self) -> EngineStatus:
        """The engine's status, as last published."""
        return self._statuses[self.name]

    async def supervise(self, interval_seconds: float) -> None:
        """Start the engine, repeatedly if necessary, then check it at every interval; runs until cancelled."""
        _log.info("engine_loading", extra={"engine": self.name})
        await self._start_with_retries()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.check_requested.wait(), interval_seconds)
            self.check_requested.clear()
            await self._attempt("check", self.engine.check)
            self._announce_retry(interval_seconds)

    async def stop(self) -> None:
        """Stop the engine, in whatever state it is; an error is logged."""
        try:
            await self.engine.stop()
        except Exception:  # noqa: BLE001 (the other engines must be stopped all the same)
            _log.exception("engine_stop_failed", extra={"engine": self.name})

    @contextmanager
    def count_running(self) -> Generator[None]:
        """Count one generation as running inside the context."""
        self._publish(running=self.status.running + 1)
        self.idle.clear()
        gauge(IN_FLIGHT, self.name).inc()
        try:
            yield
        finally:
            self._publish(running=self.status.running - 1)
            gauge(IN_FLIGHT, self.name).dec()
            if not self.status.running:
                self.idle.set()

    def drain(self) -> None:
        """Take no new generations; this cannot be undone."""
        self._set_state(EngineState.ENGINE_STATE_DRAINING, "the server is shutting down")

    def learn(
        self, work: Work, seconds: float, *, ended_ago: float = 0.0, sharing: int = 1
    ) -> None:
        """Take note of how long a task took that ended so many seconds ago; `sharing` as in `ServiceTimes.learn`."""
        at = time.monotonic() - ended_ago
        self._publish(times=self.status.times.learn(work, seconds, at=at, sharing=sharing))

    def restore_spending(self, amount: float) -> None:
        """Count what was spent today before this process started."""
        self._publish(budget=self.status.budget.add(amount))

    def set_spending(self, amount: float) -> None:
        """Count what was spent today, here and elsewhere."""
        self._publish(budget=DailyBudget(limit=self.status.budget.limit).add(amount))

    def add_spending(self, cost: Cost) -> None:
        """Count the cost of a generation; it may be empty."""
        if cost.currency:
            COST.labels(self.name, cost.currency).inc(cost.amount)
            self._publish(budget=self.status.budget.add(cost.amount))

    async def _start_with_retries(self) -> None:
        delays = iter(_RETRY_SECONDS)
        delay = 0.0
        while not await self._attempt("start", self.engine.start):
            delay = next(delays, delay)
            self._announce_retry(delay)
            await asyncio.sleep(delay)

    def _announce_retry(self, seconds: float) -> None:
        """Publish when the engine may be ready again: in so many seconds, or later if it has said so."""
        if not self.status.ready:
            self._publish(retry_at=time.monotonic() + max(seconds, self._wanted_delay))

    async def _attempt(self, action: str, call: Callable[[], Awaitable[None]]) -> bool:
        """Start or check the engine; whether it is ready afterwards."""
        self._wanted_delay = 0.0
        try:
            await call()
        except EngineError as error:
            if isinstance(error, EngineUnavailableError):
                self._wanted_delay = error.retry_after_seconds
            self._set_state(EngineState.ENGINE_STATE_UNAVAILABLE, str(error))
        except Exception:  # noqa: BLE001 (engines of third parties may raise anything)
            _log.exception("engine_failed", extra={"engine": self.name, "action": action})
            message = f"failed to {action}; the server's log has the reason"
            self._set_state(EngineState.ENGINE_STATE_UNAVAILABLE, message)
        else:
            self._set_state(EngineState.ENGINE_STATE_READY, "")
            return True
        return False

    def _set_state(self, state: EngineState.ValueType, message: str) -> None:
        before = self.status
        if before.state == EngineState.ENGINE_STATE_DRAINING:
            return
        told = self.hide(message)
        self._publish(state=state, message=told)
        if (before.state, before.message) == (state, told):
            return
        ENGINE_UP.labels(self.name).set(self.status.ready)
        RUNTIME_FALLBACKS.labels(self.name).set(len(self.status.capabilities.runtime_fallbacks))
        if self.status.ready:
            self.ready.set()
        else:
            self.ready.clear()
        if self.status.ready:
            _log.info("engine_ready", extra={"engine": self.name})
        elif state == EngineState.ENGINE_STATE_DRAINING:
            _log.info("engine_draining", extra={"engine": self.name})
        else:
            _log.warning("engine_unavailable", extra={"engine": self.name, "error": message})

    def _publish(self, **changes: object) -> None:
        """Publish the changed status, with the capabilities that the engine has now."""
        self._statuses.publish(self.status.change(capabilities=self.engine.capabilities, **changes))
