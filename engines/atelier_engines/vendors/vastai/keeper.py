"""Has a machine rented when there is work, replaced when it is bad, and given back when it is idle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import assert_never

from atelier_engines.errors import EngineError, EngineQuotaError, EngineUnavailableError
from atelier_engines.forwarding.engine import ForwardingEngine
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.machines import Machines
from atelier_engines.vendors.vastai.states import Absent, Booting, Ready, Rental, State, fault_of

_log = logging.getLogger(__name__)
_CHECK_SECONDS = 15.0


class Keeper:
    """At most one machine at a time; a task of its own looks after it."""

    def __init__(
        self, machines: Machines, config: VastaiConfig, clock: Callable[[], float]
    ) -> None:
        """Rent nothing yet."""
        self._machines = machines
        self._config = config
        self._clock = clock
        self._state: State = Absent()
        self._trouble: EngineError | None = None
        self._users = 0
        self._last_use = clock()
        self._replacing = False
        self._bad_checks = 0
        self._retired: list[ForwardingEngine] = []
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take over what an earlier life has left serving, and look after it from now on.

        Raises:
            EngineError: the service does not tell what there is.
        """
        if self._watching is not None:
            return
        found = await self._machines.found()
        if found is not None:
            rental, engine = found
            self._become(Ready(rental=rental, engine=engine))
        self._watching = asyncio.create_task(self._watch())

    async def end(self) -> None:
        """Give everything back, unless it is to be kept."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
            self._watching = None
        state = self._state
        self._become(Absent())
        await self._close_retired()
        if isinstance(state, Ready) and self._config.keep_on_stop:
            _log.warning("vastai: instance %d is kept, and costs", state.rental.instance_id)
            return
        if not isinstance(state, Absent):
            self._machines.condemn(state.rental)
        await self._machines.destroy_all()

    @asynccontextmanager
    async def machine(self) -> AsyncGenerator[Ready]:
        """A machine that serves; one is rented if need be, and none given back inside the context.

        Raises:
            EngineQuotaError: the spending cap is reached, or the account empty.
            EngineUnavailableError: there was none within `wait_seconds`; the text says why.
        """
        self._users += 1
        if not isinstance(self._state, Ready):
            self._wake.set()
        try:
            yield await self._ready()
        finally:
            self._users -= 1
            self._last_use = self._clock()

    async def gone(self, ready: Ready) -> bool:
        """Whether the machine is given up, or the service says that it will not work again."""
        with suppress(EngineError):
            return ready.lost.is_set() or await self._machines.fault(ready.rental) is not None
        return False

    def require_hope(self) -> None:
        """Return if there is a machine, or no known reason why there could not be one.

        Raises:
            EngineError: the reason; it is looked into at once.
        """
        if isinstance(self._state, Absent):
            self._machines.purse.require()
            if self._trouble is not None:
                self._wake.set()
                raise self._trouble

    async def _ready(self) -> Ready:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.wait_seconds):
                while not isinstance(self._state, Ready):
                    if isinstance(self._trouble, EngineQuotaError):
                        raise self._trouble
                    self._changed.clear()
                    await self._changed.wait()
        if isinstance(self._state, Ready):
            return self._state
        raise EngineUnavailableError(
            f"no rented machine serves yet: {self._trouble or 'it takes its time to start'}",
            retry_after_seconds=self._config.poll_seconds,
        )

    async def _watch(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._advance()
            except EngineError as error:
                self._tell(error)
            except Exception:  # noqa: BLE001 (whatever it is, the machine costs on and must be watched)
                _log.exception("vastai: the watch over the machine stumbled")
            serving = isinstance(self._state, Ready)
            pause = self._config.check_seconds if serving else self._config.poll_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _advance(self) -> None:
        """One look, and what follows from it."""
        await self._machines.execute()
        if not self._users:
            await self._close_retired()
        match self._state:
            case Absent():
                await self._look_for_offers()
            case Booting(rental=rental):
                await self._look_at_boot(rental)
            case Ready() as ready:
                await self._look_at_work(ready)
            case _:
                assert_never(self._state)

    async def _look_for_offers(self) -> None:
        wanted = self._users > 0 or self._replacing
        if not wanted and self._trouble is None:
            return
        self._machines.purse.require()
        offers = await self._machines.offers()
        self._tell(None)
        if wanted:
            self._become(Booting(rental=await self._machines.rented(offers)))
            self._wake.set()

    async def _look_at_boot(self, rental: Rental) -> None:
        if await self._overspent(rental):
            return
        instance = await self._machines.api.show(rental.instance_id)
        fault = fault_of(instance)
        if fault is None and self._clock() - rental.since > self._config.boot_seconds:
            fault = f"it does not serve after {self._config.boot_seconds:g} s"
        if instance is None or fault is not None:
            await self._replace(rental, fault or "it is gone")
            return
        engine = await self._machines.serving(instance)
        if engine is not None:
            self._become(Ready(rental=rental, engine=engine))

    async def _look_at_work(self, ready: Ready) -> None:
        rental = ready.rental
        if await self._overspent(rental):
            return
        idle = self._config.idle_seconds
        if not self._users and idle is not None and self._clock() - self._last_use > idle:
            _log.info("vastai: instance %d is idle, and given back", rental.instance_id)
            await self._leave(rental)
            return
        self._bad_checks = 0 if await self._answers(ready) else self._bad_checks + 1
        if self._bad_checks >= self._config.sick_checks:
            await self._replace(rental, "Atelier there does not answer, or its engine cannot work")
            return
        fault = await self._machines.fault(rental)
        if fault is not None:
            await self._replace(rental, fault)

    async def _answers(self, ready: Ready) -> bool:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await ready.engine.check()
        except (EngineError, TimeoutError):
            return False
        return True

    async def _overspent(self, rental: Rental) -> bool:
        try:
            self._machines.purse.require()
        except EngineQuotaError as error:
            await self._leave(rental)
            self._tell(error)
            return True
        return False

    async def _replace(self, rental: Rental, fault: str) -> None:
        """Never have that host again, and look for another at once."""
        _log.warning("vastai: instance %d is replaced: %s", rental.instance_id, fault)
        self._machines.exclude(rental.machine_id)
        await self._leave(rental)
        self._replacing = True
        self._tell(EngineUnavailableError(f"the rented machine is being replaced: {fault}"))
        self._wake.set()

    async def _leave(self, rental: Rental) -> None:
        self._become(Absent())
        self._machines.condemn(rental)
        await self._machines.execute()

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().stop()

    def _become(self, state: State) -> None:
        if isinstance(self._state, Ready):
            self._state.lost.set()
            self._retired.append(self._state.engine)
        if isinstance(state, Ready):
            self._trouble, self._replacing, self._bad_checks = None, False, 0
            self._last_use = self._clock()
        self._state = state
        self._changed.set()

    def _tell(self, trouble: EngineError | None) -> None:
        if trouble is not None and str(trouble) != str(self._trouble):
            _log.warning("vastai: %s", trouble)
        self._trouble = trouble
        self._changed.set()
