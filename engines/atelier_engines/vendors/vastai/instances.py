"""Rents and destroys instances, so that none is paid for longer than it is needed."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress

from atelier_engines.errors import EngineError, EngineUnavailableError, EngineUncertainError
from atelier_engines.forwarding.config import ForwardingConfig
from atelier_engines.forwarding.engine import ForwardingEngine
from atelier_engines.vendors.vastai.api import InstanceGoneError, VastApi
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.credentials import WorkerCredentials
from atelier_engines.vendors.vastai.exclusions import Exclusions
from atelier_engines.vendors.vastai.schemas import Instance, Offer
from atelier_engines.vendors.vastai.spending import SpendingCap
from atelier_engines.vendors.vastai.states import Rental, describe_fault

_log = logging.getLogger(__name__)
_CALL_TIMEOUT_SECONDS = 15.0


def _find_age(instance: Instance) -> float:
    """Seconds since the start of the rental, as far as this machine's clock agrees with that of the service."""
    if not instance.start_date:
        return 0.0
    return max(0.0, time.time() - instance.start_date)  # a date that the service gives


class Instances:
    """The account's instances with the configured label."""

    def __init__(self, api: VastApi, config: VastaiConfig, clock: Callable[[], float]) -> None:
        """Create the object; it rents nothing yet."""
        self.api = api
        self.spending = SpendingCap(config.spending_cap, clock)
        self._config = config
        self._clock = clock
        self._credentials = WorkerCredentials(config.state_dir)
        self._exclusions = Exclusions(config.state_dir, seconds=config.exclusion_seconds)
        self._to_destroy: dict[int, Rental | None] = {}
        self._held: set[int] = set()
        self._renting = asyncio.Lock()
        self._destroying = asyncio.Lock()

    def exclude_host(self, machine_id: int) -> None:
        """Exclude a host from all searches of the next days."""
        if machine_id:
            self._exclusions.add(machine_id)

    def close(self) -> None:
        """Forget certificates and keys that only this process knows."""
        self._credentials.close()

    async def adopt_existing(self, most: int) -> list[tuple[Rental, ForwardingEngine]]:
        """Up to so many ready instances of a previous process; all others with the label are destroyed.

        Raises:
            EngineError: the service cannot list the instances.
        """
        kept: list[tuple[Rental, ForwardingEngine]] = []
        found = await self.api.list_by_label()
        self._credentials.forget_others([instance.label or "" for instance in found])
        for instance in found:
            engine = await self.probe_ready(instance) if len(kept) < most else None
            if engine is None:
                _log.warning("vastai_leftover_destroyed", extra={"instance": instance.id})
                self._to_destroy[instance.id] = None
                continue
            rental = Rental(
                instance_id=instance.id,
                machine_id=instance.machine_id or 0,
                price_per_hour=instance.dph_total or self._config.max_price_per_hour,
                since=self._clock() - _find_age(instance),
            )
            self._hold(rental)
            kept.append((rental, engine))
        await self.destroy_scheduled()
        return kept

    async def search_offers(self) -> list[Offer]:
        """Search for offers, the cheapest first.

        Raises:
            EngineUnavailableError: there is no offer, or the service cannot be reached.
        """
        found = [one for one in await self.api.search() if one.machine_id not in self._exclusions]
        if not found:
            raise EngineUnavailableError(
                "vastai has no offer that matches the configuration; allow a higher price or other GPUs"
            )
        return found

    async def rent(self, offers: Collection[Offer]) -> Rental:
        """Rent the first offer that is still available.

        Raises:
            EngineUnavailableError: no offer is still available.
            EngineError: the service refused to rent.
        """
        async with self._renting:  # what is being created has no id yet that would protect it
            await self._destroy_unwanted()
            for offer in offers:
                with suppress(InstanceGoneError):
                    return await self._rent_offer(offer)
        raise EngineUnavailableError("no vastai offer is still available; others have rented them")

    async def probe_ready(self, instance: Instance) -> ForwardingEngine | None:
        """Connect to Atelier on that instance; None if it does not respond, or its engine is not ready."""
        address = instance.address(self._config.port)
        if instance.actual_status != "running" or address is None:
            return None
        worker = self._find_worker(instance.label or "")
        if worker is None:
            return None
        engine = ForwardingEngine(address, worker, concurrency=self._config.concurrency)
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
                await engine.start()
                await engine.check()
        except (EngineError, TimeoutError):
            await engine.stop()
            return None
        except BaseException:
            await engine.stop()
            raise
        return engine

    async def find_fault(self, rental: Rental) -> str | None:
        """Ask the service what is wrong with the instance; None for nothing."""
        return describe_fault(await self.api.show(rental.instance_id))

    def schedule_destroy(self, rental: Rental) -> None:
        """Mark the instance for `destroy_scheduled`; it costs until that has succeeded."""
        self._held.discard(rental.instance_id)
        self._to_destroy[rental.instance_id] = rental

    async def destroy_scheduled(self) -> None:
        """Destroy all marked instances; a failed destruction is retried by the next call."""
        async with self._destroying:
            await self._destroy_each()

    async def _destroy_each(self) -> None:
        for instance_id, rental in tuple(self._to_destroy.items()):
            try:
                await self.api.destroy(instance_id)
            except EngineError as error:
                details = {"instance": instance_id, "error": str(error)}
                _log.error("vastai_destroy_failed", extra=details)
                continue
            self._to_destroy.pop(instance_id, None)
            if rental is not None:
                self.spending.end_rental(rental)

    async def destroy_all(self) -> None:
        """Destroy all instances with the label, as far as the service can be reached."""
        with suppress(EngineError):
            await self._destroy_unwanted()
        await self.destroy_scheduled()

    async def _destroy_unwanted(self) -> None:
        """Destroy all instances that have the label, but for those in use."""
        for stray in await self.api.list_by_label():
            if stray.id not in self._held:
                self._to_destroy.setdefault(stray.id, None)
        await self.destroy_scheduled()

    async def _rent_offer(self, offer: Offer) -> Rental:
        label, since = f"{self._config.label}/{uuid.uuid4().hex}", self._clock()
        env = self._credentials.issue(label) if self._issues_credentials else {}
        creating = asyncio.create_task(self.api.create(offer, label, env))
        try:
            instance_id = await asyncio.shield(creating)
        except asyncio.CancelledError:
            await self._schedule_destroy_created(creating)
            raise
        except EngineUncertainError:
            found = [one.id for one in await self.api.list_by_label() if one.label == label]
            if not found:
                raise
            instance_id = found[0]
        details = {"instance": instance_id, "usd_per_hour": offer.dph_total}
        _log.info("vastai_instance_rented", extra=details)
        rental = Rental(
            instance_id=instance_id,
            machine_id=offer.machine_id,
            price_per_hour=offer.dph_total,
            since=since,
        )
        self._hold(rental)
        return rental

    @property
    def _issues_credentials(self) -> bool:
        return self._config.generate_credentials and not self._config.worker.tls

    def _find_worker(self, label: str) -> ForwardingConfig | None:
        """How to connect to the instance; None if its certificate and key are lost."""
        worker = self._config.worker
        return self._credentials.apply(label, worker) if self._issues_credentials else worker

    def _hold(self, rental: Rental) -> None:
        """Count the rental, and keep it until `schedule_destroy`."""
        self._held.add(rental.instance_id)
        self.spending.start_rental(rental)

    async def _schedule_destroy_created(self, creating: asyncio.Task[int]) -> None:
        """Mark an instance whose creation was interrupted by a stop."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_CALL_TIMEOUT_SECONDS):
                self._to_destroy[await creating] = None
