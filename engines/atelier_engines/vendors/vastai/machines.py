"""Rents and destroys machines, and sees to it that each is paid for no longer than it is wanted."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress

from atelier_engines.errors import EngineError, EngineUnavailableError, EngineUncertainError
from atelier_engines.forwarding.engine import ForwardingEngine
from atelier_engines.vendors.vastai.api import GoneError, VastApi
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.purse import Purse
from atelier_engines.vendors.vastai.states import Rental, fault_of
from atelier_engines.vendors.vastai.wire import Instance, Offer

_log = logging.getLogger(__name__)
_CALL_SECONDS = 15.0


class Machines:
    """Everything of the account that bears the configured label."""

    def __init__(self, api: VastApi, config: VastaiConfig, clock: Callable[[], float]) -> None:
        """Rent nothing yet."""
        self.api = api
        self.purse = Purse(config.spending_cap, clock)
        self._config = config
        self._clock = clock
        self._excluded: set[int] = set()
        self._doomed: dict[int, Rental | None] = {}

    def exclude(self, machine_id: int) -> None:
        """Never rent that host again."""
        if machine_id:
            self._excluded.add(machine_id)

    async def found(self) -> tuple[Rental, ForwardingEngine] | None:
        """A machine of an earlier life that serves; whatever else bears the label is destroyed.

        Raises:
            EngineError: the service does not tell what there is.
        """
        kept: tuple[Rental, ForwardingEngine] | None = None
        for instance in await self.api.labelled():
            engine = None if kept else await self.serving(instance)
            if engine is None:
                _log.warning("vastai: instance %d of an earlier life is destroyed", instance.id)
                self._doomed[instance.id] = None
                continue
            rental = Rental(
                instance_id=instance.id,
                machine_id=instance.machine_id or 0,
                price_per_hour=instance.dph_total or self._config.max_price_per_hour,
                since=min(self._clock(), instance.start_date or self._clock()),
            )
            self.purse.open(rental)
            kept = (rental, engine)
        await self.execute()
        return kept

    async def offers(self) -> list[Offer]:
        """What could be rented now, the cheapest first.

        Raises:
            EngineUnavailableError: nothing; or the service cannot be asked.
        """
        found = [one for one in await self.api.search() if one.machine_id not in self._excluded]
        if not found:
            raise EngineUnavailableError(
                "vastai has no offer that satisfies the configuration; allow a higher price or other GPUs"
            )
        return found

    async def rented(self, offers: Collection[Offer]) -> Rental:
        """The first of the offers that is still there.

        Raises:
            EngineUnavailableError: others have them all.
            EngineError: the service would not rent.
        """
        await self._sweep()
        for offer in offers:
            with suppress(GoneError):
                return await self._rent(offer)
        raise EngineUnavailableError("vastai has rented every offer to somebody else")

    async def serving(self, instance: Instance) -> ForwardingEngine | None:
        """Atelier on that instance, started; None while it does not answer, or its engine is not ready."""
        address = instance.address(self._config.port)
        if instance.actual_status != "running" or address is None:
            return None
        engine = ForwardingEngine(
            address, self._config.worker, concurrency=self._config.concurrency
        )
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await engine.start()
                await engine.check()
        except (EngineError, TimeoutError):
            await engine.stop()
            return None
        except BaseException:
            await engine.stop()
            raise
        return engine

    async def fault(self, rental: Rental) -> str | None:
        """What the service says is wrong with the machine; None for nothing."""
        return fault_of(await self.api.show(rental.instance_id))

    def condemn(self, rental: Rental) -> None:
        """Have it destroyed by `execute`; it costs until that has succeeded."""
        self._doomed[rental.instance_id] = rental

    async def execute(self) -> None:
        """Destroy what is condemned; what cannot be is tried again the next time."""
        for instance_id, rental in tuple(self._doomed.items()):
            try:
                await self.api.destroy(instance_id)
            except EngineError as error:
                _log.error("vastai: instance %d is NOT destroyed yet: %s", instance_id, error)
                continue
            del self._doomed[instance_id]
            if rental is not None:
                self.purse.close(rental)

    async def destroy_all(self) -> None:
        """Destroy everything that bears the label, as far as the service lets us."""
        with suppress(EngineError):
            await self._sweep()
        await self.execute()

    async def _sweep(self) -> None:
        """Destroy what bears the label although it should not be there."""
        for stray in await self.api.labelled():
            self._doomed.setdefault(stray.id, None)
        await self.execute()

    async def _rent(self, offer: Offer) -> Rental:
        label, since = f"{self._config.label}/{uuid.uuid4().hex}", self._clock()
        creating = asyncio.create_task(self.api.create(offer, label))
        try:
            instance_id = await asyncio.shield(creating)
        except asyncio.CancelledError:
            await self._regret(creating)
            raise
        except EngineUncertainError:
            found = [one.id for one in await self.api.labelled() if one.label == label]
            if not found:
                raise
            instance_id = found[0]
        _log.info("vastai: instance %d is rented at %g USD an hour", instance_id, offer.dph_total)
        rental = Rental(
            instance_id=instance_id,
            machine_id=offer.machine_id,
            price_per_hour=offer.dph_total,
            since=since,
        )
        self.purse.open(rental)
        return rental

    async def _regret(self, creating: asyncio.Task[int]) -> None:
        """Condemn what is being rented while we are told to stop."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_CALL_SECONDS):
                self._doomed[await creating] = None
