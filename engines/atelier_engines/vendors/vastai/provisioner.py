"""Rents an instance when there are tasks, replaces a faulty one, and releases an idle one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
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
        self,
        instances: Instances,
        config: VastaiConfig,
        clock: Callable[[], float],
        *,
        is_wanted: Callable[[], bool],
        on_change: Callable[[], object],
    ) -> None:
        """Create the provisioner; it rents nothing yet.

        `is_wanted` says whether tasks wait for an instance; `on_change` is called when one may be free, or why none is.
        """
        self._is_wanted = is_wanted
        self._on_change = on_change
        self._instances = instances
        self._config = config
        self._clock = clock
        self._state: State = Absent()
        self.last_error: EngineError | None = None
        """Why the last attempt to have an instance failed."""
        self.users = 0
        """Tasks on the instance now."""
        self._last_use = clock()
        self._replacing = False
        self._failed_checks = 0
        self._retired_engines: list[ForwardingEngine] = []
        self._wake = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether Atelier responds on its instance."""
        return isinstance(self._state, Ready)

    @property
    def is_renting(self) -> bool:
        """Whether it has an instance, ready or not."""
        return not isinstance(self._state, Absent)

    def start(self, adopted: tuple[Rental, ForwardingEngine] | None) -> None:
        """Start the supervisor, with a ready instance of a previous process if there is one."""
        if adopted is not None:
            rental, engine = adopted
            self._set_state(Ready(rental=rental, engine=engine))
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> bool:
        """Stop the supervisor, and have the instance destroyed, unless it is to be kept; whether it is."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        state = self._state
        self._set_state(Absent())
        await self._stop_retired_engines()
        if isinstance(state, Ready) and self._config.keep_on_stop:
            _log.warning("vastai_instance_kept", extra={"instance": state.rental.instance_id})
            return True
        if not isinstance(state, Absent):
            self._instances.schedule_destroy(state.rental)
            await self._instances.destroy_scheduled()
        return False

    def wake(self) -> None:
        """Look at once whether an instance is to be rented."""
        self._wake.set()

    @contextmanager
    def use(self) -> Generator[Ready]:
        """The ready instance; it is not released for being idle inside the context."""
        if not isinstance(self._state, Ready):
            raise EngineUnavailableError("the rented instance is not ready any more")
        self.users += 1
        try:
            yield self._state
        finally:
            self.users -= 1
            self._last_use = self._clock()
            self._on_change()

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
        if not self.users:
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
        wanted = self._is_wanted() or self._replacing
        if not wanted and self.last_error is None:
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
        if not self.users and idle is not None and self._clock() - self._last_use > idle:
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
            self.last_error, self._replacing, self._failed_checks = None, False, 0
            self._last_use = self._clock()
        self._state = state
        self._on_change()

    def _set_error(self, error: EngineError | None) -> None:
        if error is not None and str(error) != str(self.last_error):
            _log.warning("vastai_unavailable", extra={"error": str(error)})
        self.last_error = error
        self._on_change()
