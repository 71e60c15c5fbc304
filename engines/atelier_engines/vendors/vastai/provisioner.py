"""Rents an instance when there are tasks, replaces a faulty one, and releases an idle one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import assert_never

from atelier_engines.errors import EngineError, EngineQuotaError, EngineUnavailableError
from atelier_engines.forwarding.engine import ForwardingEngine
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.instances import Instances
from atelier_engines.vendors.vastai.states import (
    Absent,
    Ready,
    Rental,
    Starting,
    State,
    describe_fault,
)

_log = logging.getLogger(__name__)
_CHECK_TIMEOUT_SECONDS = 15.0


class InstanceProvisioner:
    """Owns at most one instance at a time; an asyncio task supervises it."""

    def __init__(
        self, instances: Instances, config: VastaiConfig, clock: Callable[[], float]
    ) -> None:
        """Create the provisioner; it rents nothing yet."""
        self._instances = instances
        self._config = config
        self._clock = clock
        self._state: State = Absent()
        self._last_error: EngineError | None = None
        self._users = 0
        self._last_use = clock()
        self._replacing = False
        self._failed_checks = 0
        self._retired_engines: list[ForwardingEngine] = []
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Adopt a ready instance of a previous process, if there is one, and start the supervisor.

        Raises:
            EngineError: the service cannot list the instances.
        """
        if self._supervisor is not None:
            return
        found = await self._instances.adopt_existing()
        if found is not None:
            rental, engine = found
            self._set_state(Ready(rental=rental, engine=engine))
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Stop the supervisor and destroy the instance, unless it is to be kept."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        state = self._state
        self._set_state(Absent())
        await self._stop_retired_engines()
        if isinstance(state, Ready) and self._config.keep_on_stop:
            _log.warning("vastai_instance_kept", extra={"instance": state.rental.instance_id})
            return
        if not isinstance(state, Absent):
            self._instances.schedule_destroy(state.rental)
        await self._instances.destroy_all()

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Ready]:
        """Wait for a ready instance, renting one if necessary; it is not released inside the context.

        Raises:
            EngineQuotaError: the spending cap is reached, or the account has no credit.
            EngineUnavailableError: none was ready within `acquire_timeout_seconds`; the message says why.
        """
        self._users += 1
        if not isinstance(self._state, Ready):
            self._wake.set()
        try:
            yield await self._wait_until_ready()
        finally:
            self._users -= 1
            self._last_use = self._clock()

    async def is_lost(self, ready: Ready) -> bool:
        """Whether the instance was released, or the service says that it cannot become ready again."""
        with suppress(EngineError):
            return ready.lost.is_set() or await self._instances.find_fault(ready.rental) is not None
        return False

    def require_obtainable(self) -> None:
        """Return if an instance is rented, or no reason is known why none could be.

        Raises:
            EngineError: the reason; the supervisor tries again at once.
        """
        if isinstance(self._state, Absent):
            self._instances.spending.require_budget()
            if self._last_error is not None:
                self._wake.set()
                raise self._last_error

    async def _wait_until_ready(self) -> Ready:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.acquire_timeout_seconds):
                while not isinstance(self._state, Ready):
                    if isinstance(self._last_error, EngineQuotaError):
                        raise self._last_error
                    self._changed.clear()
                    await self._changed.wait()
        if isinstance(self._state, Ready):
            return self._state
        raise EngineUnavailableError(
            f"no rented instance is ready: {self._last_error or 'it is still starting'}",
            retry_after_seconds=self._config.poll_seconds,
        )

    async def _supervise(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._step()
            except EngineError as error:
                self._set_error(error)
            except Exception:  # noqa: BLE001 (the instance still costs money and must be supervised)
                _log.exception("vastai_supervisor_failed")
            serving = isinstance(self._state, Ready)
            pause = self._config.check_seconds if serving else self._config.poll_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _step(self) -> None:
        """Check the state once, and act on it."""
        await self._instances.destroy_scheduled()
        if not self._users:
            await self._stop_retired_engines()
        match self._state:
            case Absent():
                await self._rent_if_wanted()
            case Starting(rental=rental):
                await self._check_startup(rental)
            case Ready() as ready:
                await self._check_ready(ready)
            case _:
                assert_never(self._state)

    async def _rent_if_wanted(self) -> None:
        wanted = self._users > 0 or self._replacing
        if not wanted and self._last_error is None:
            return
        self._instances.spending.require_budget()
        offers = await self._instances.search_offers()
        self._set_error(None)
        if wanted:
            self._set_state(Starting(rental=await self._instances.rent(offers)))
            self._wake.set()

    async def _check_startup(self, rental: Rental) -> None:
        if await self._release_if_over_cap(rental):
            return
        instance = await self._instances.api.show(rental.instance_id)
        fault = describe_fault(instance)
        if fault is None and self._clock() - rental.since > self._config.startup_timeout_seconds:
            fault = f"it is not ready after {self._config.startup_timeout_seconds:g} s"
        if instance is None or fault is not None:
            await self._replace(rental, fault or "it no longer exists")
            return
        engine = await self._instances.probe_ready(instance)
        if engine is not None:
            self._set_state(Ready(rental=rental, engine=engine))

    async def _check_ready(self, ready: Ready) -> None:
        rental = ready.rental
        if await self._release_if_over_cap(rental):
            return
        idle = self._config.idle_timeout_seconds
        if not self._users and idle is not None and self._clock() - self._last_use > idle:
            _log.info("vastai_instance_idle", extra={"instance": rental.instance_id})
            await self._release(rental)
            return
        self._failed_checks = 0 if await self._is_healthy(ready) else self._failed_checks + 1
        if self._failed_checks >= self._config.unhealthy_threshold:
            await self._replace(
                rental, f"{self._failed_checks} consecutive checks of Atelier on it failed"
            )
            return
        fault = await self._instances.find_fault(rental)
        if fault is not None:
            await self._replace(rental, fault)

    async def _is_healthy(self, ready: Ready) -> bool:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_SECONDS):
                await ready.engine.check()
        except (EngineError, TimeoutError):
            return False
        return True

    async def _release_if_over_cap(self, rental: Rental) -> bool:
        try:
            self._instances.spending.require_budget()
        except EngineQuotaError as error:
            await self._release(rental)
            self._set_error(error)
            return True
        return False

    async def _replace(self, rental: Rental, fault: str) -> None:
        """Release the instance, exclude its host, and rent another at once."""
        details = {"instance": rental.instance_id, "reason": fault}
        _log.warning("vastai_instance_replaced", extra=details)
        self._instances.exclude_host(rental.machine_id)
        await self._release(rental)
        self._replacing = True
        self._set_error(EngineUnavailableError(f"the rented instance is being replaced: {fault}"))
        self._wake.set()

    async def _release(self, rental: Rental) -> None:
        self._set_state(Absent())
        self._instances.schedule_destroy(rental)
        await self._instances.destroy_scheduled()

    async def _stop_retired_engines(self) -> None:
        while self._retired_engines:
            await self._retired_engines.pop().stop()

    def _set_state(self, state: State) -> None:
        if isinstance(self._state, Ready):
            self._state.lost.set()
            self._retired_engines.append(self._state.engine)
        if isinstance(state, Ready):
            self._last_error, self._replacing, self._failed_checks = None, False, 0
            self._last_use = self._clock()
        self._state = state
        self._changed.set()

    def _set_error(self, error: EngineError | None) -> None:
        if error is not None and str(error) != str(self._last_error):
            _log.warning("vastai_unavailable", extra={"error": str(error)})
        self._last_error = error
        self._changed.set()
