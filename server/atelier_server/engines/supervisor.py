"""One engine as the service sees it: its state, its load, its expected speed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from atelier.v1.engine_pb2 import EngineState
from atelier_engines.capabilities import Capabilities
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError
from atelier_server.config.settings import EngineSettings
from atelier_server.metrics import COST, ENGINE_UP, IN_FLIGHT

_log = logging.getLogger(__name__)
_SMOOTHING = 0.2  # weight of the newest service time in the moving average
_RETRY_SECONDS = (1, 2, 5, 15, 60)  # between attempts to start an engine that would not


@dataclass(slots=True, eq=False)
class EngineSupervisor:
    """An engine with its name, its settings and its standing."""

    name: str
    settings: EngineSettings
    engine: Engine
    on_change: Callable[[EngineSupervisor], None] = lambda _: None
    """Told whenever `state` changes."""
    state: EngineState.ValueType = EngineState.ENGINE_STATE_LOADING
    message: str = "starting"
    running: int = 0
    """Generations in hand; `busy` counts them."""
    service_seconds: float | None = None
    """Moving average of the time of one generation; None before the first."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the engine can work."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no generation is in hand."""
    check_requested: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to have the engine checked now, and not only when it is due."""
    _spent: tuple[date, float] = (date.min, 0.0)

    def __post_init__(self) -> None:
        """Start idle."""
        self.idle.set()

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self.engine.capabilities

    async def supervise(self, interval_seconds: float) -> None:
        """Start the engine, again and again if need be, then check it now and then; runs until cancelled."""
        await self._start_with_retries()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.check_requested.wait(), interval_seconds)
            self.check_requested.clear()
            await self._check()

    async def stop(self) -> None:
        """Stop the engine, whatever state it is in."""
        try:
            await self.engine.stop()
        except Exception:  # noqa: BLE001 (the others are to be stopped all the same)
            _log.exception("engine_stop_failed", extra={"engine": self.name})

    @contextmanager
    def count_running(self) -> Generator[None]:
        """Count a generation as in hand."""
        self.running += 1
        self.idle.clear()
        IN_FLIGHT.labels(self.name).inc()
        try:
            yield
        finally:
            self.running -= 1
            IN_FLIGHT.labels(self.name).dec()
            if not self.running:
                self.idle.set()

    def drain(self) -> None:
        """Take nothing new."""
        self._set_state(EngineState.ENGINE_STATE_DRAINING, "the server is about to stop")

    def record_service_time(self, seconds: float) -> None:
        """Learn from the time of one generation."""
        before = seconds if self.service_seconds is None else self.service_seconds
        self.service_seconds = before + _SMOOTHING * (seconds - before)

    @property
    def over_budget(self) -> bool:
        """Whether the money for today is spent."""
        budget = self.settings.daily_budget
        return budget is not None and self.spent_today >= budget

    def restore_spending(self, amount: float) -> None:
        """Note what was spent today before this process began."""
        self._spent = (_today(), amount)

    def add_spending(self, amount: float, currency: str) -> None:
        """Count money that a generation has cost."""
        COST.labels(self.name, currency).inc(amount)
        self._spent = (_today(), self.spent_today + amount)

    @property
    def spent_today(self) -> float:
        """Money spent since midnight UTC."""
        day, amount = self._spent
        return amount if day == _today() else 0.0

    def backlog_seconds(self, queued: int) -> float | None:
        """Expected time until a generation that comes now is taken up; None before the first was measured."""
        if self.service_seconds is None:
            return None
        ahead = queued + self.running
        free = self.capabilities.concurrency
        return max(0, ahead - free + 1) * self.service_seconds / free

    async def _start_with_retries(self) -> None:
        delays = iter(_RETRY_SECONDS)
        delay = 0.0
        while True:
            try:
                await self.engine.start()
            except EngineError as error:
                self._set_state(EngineState.ENGINE_STATE_UNAVAILABLE, str(error))
            except Exception:  # noqa: BLE001 (an engine may be anybody's)
                _log.exception("engine_start_failed", extra={"engine": self.name})
                self._set_state(
                    EngineState.ENGINE_STATE_UNAVAILABLE,
                    "it failed to start; the server's log has the reason",
                )
            else:
                self._set_state(EngineState.ENGINE_STATE_READY, "")
                return
            delay = next(delays, delay)
            await asyncio.sleep(delay)

    async def _check(self) -> None:
        try:
            await self.engine.check()
        except EngineError as error:
            self._set_state(EngineState.ENGINE_STATE_UNAVAILABLE, str(error))
        except Exception:  # noqa: BLE001 (an engine may be anybody's)
            _log.exception("engine_check_failed", extra={"engine": self.name})
            self._set_state(
                EngineState.ENGINE_STATE_UNAVAILABLE,
                "its check failed; the server's log has the reason",
            )
        else:
            self._set_state(EngineState.ENGINE_STATE_READY, "")

    def _set_state(self, state: EngineState.ValueType, message: str) -> None:
        if self.state == EngineState.ENGINE_STATE_DRAINING or (self.state, self.message) == (
            state,
            message,
        ):
            return
        self.state, self.message = state, message
        up = state == EngineState.ENGINE_STATE_READY
        ENGINE_UP.labels(self.name).set(up)
        if up:
            self.ready.set()
        else:
            self.ready.clear()
        if up:
            _log.info("engine_ready", extra={"engine": self.name})
        elif state == EngineState.ENGINE_STATE_DRAINING:
            _log.info("engine_draining", extra={"engine": self.name})
        else:
            _log.warning("engine_unavailable", extra={"engine": self.name, "error": message})
        self.on_change(self)


def _today() -> date:
    return datetime.now(UTC).date()
