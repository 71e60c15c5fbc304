"""The instances of an engine: as many as the tasks need, up to the maximum; each task on that with the fewest."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import zip_longest

from atelier_engines.errors import EngineError, EngineQuotaError, EngineUnavailableError
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.instances import Instances
from atelier_engines.vendors.vastai.provisioner import InstanceProvisioner
from atelier_engines.vendors.vastai.states import Ready


class InstancePool:
    """Owns up to `max_instances` instances, each by a provisioner of its own."""

    def __init__(
        self, instances: Instances, config: VastaiConfig, clock: Callable[[], float]
    ) -> None:
        """Create the pool; it rents nothing yet."""
        self._instances = instances
        self._config = config
        self._waiting = 0
        self._changed = asyncio.Event()
        self._started = False
        self._slots = [
            InstanceProvisioner(
                instances,
                config,
                clock,
                is_wanted=partial(self._is_wanted, number),
                on_change=self._changed.set,
            )
            for number in range(config.max_instances)
        ]

    async def start(self) -> None:
        """Adopt ready instances of a previous process, and supervise all.

        Raises:
            EngineError: the service cannot list the instances.
        """
        if self._started:
            return
        found = await self._instances.adopt_existing(len(self._slots))
        self._started = True
        for slot, adopted in zip_longest(self._slots, found):
            slot.start(adopted)

    async def stop(self) -> None:
        """Stop supervising, and destroy the instances, unless they are to be kept."""
        self._started = False
        kept = [await slot.stop() for slot in self._slots]
        if not any(kept):
            await self._instances.destroy_all()
        self._instances.close()

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Ready]:
        """Wait for a ready instance, renting one if necessary; it is not released inside the context.

        Raises:
            EngineQuotaError: the spending cap is reached, or the account has no credit.
            EngineUnavailableError: none was ready within `acquire_timeout_seconds`; the message says why.
        """
        self._waiting += 1
        try:
            slot = await self._wait_until_free()
        finally:
            self._waiting -= 1
        with slot.use() as ready:
            yield ready

    async def is_lost(self, ready: Ready) -> bool:
        """Whether the instance was released, or the service says that it cannot become ready again."""
        with suppress(EngineError):
            return ready.lost.is_set() or await self._instances.find_fault(ready.rental) is not None
        return False

    def require_obtainable(self) -> None:
        """Return if an instance is rented, or no reason is known why none could be.

        Raises:
            EngineError: the reason; the next attempt is made at once.
        """
        if any(slot.is_renting for slot in self._slots):
            return
        self._instances.spending.require_budget()
        error = self._find_error()
        if error is not None:
            for slot in self._slots:
                slot.wake()
            raise error

    async def _wait_until_free(self) -> InstanceProvisioner:
        for number, slot in enumerate(
            self._slots
        ):  # once: after a failure they try at their interval
            if self._is_wanted(number):
                slot.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.acquire_timeout_seconds):
                while (free := self._find_free()) is None:
                    self._require_hope()
                    self._changed.clear()
                    await self._changed.wait()
                return free
        if (free := self._find_free()) is not None:
            return free
        raise EngineUnavailableError(
            f"no rented instance is ready: {self._find_error() or 'it is still starting'}",
            retry_after_seconds=self._config.poll_seconds,
        )

    def _find_free(self) -> InstanceProvisioner | None:
        """The ready instance with the fewest tasks; None while all have as many as they run and another may come."""
        ready = [slot for slot in self._slots if slot.is_ready]
        least = min(ready, key=lambda slot: slot.users, default=None)
        all_ready = len(ready) == len(self._slots)
        if least is None or all_ready or least.users < self._config.concurrency:
            return least
        return None

    def _is_wanted(self, number: int) -> bool:
        """Whether that provisioner is to rent: tasks wait beyond what those that are starting can take."""
        starting = sum(slot.is_renting and not slot.is_ready for slot in self._slots)
        needed = math.ceil(self._waiting / self._config.concurrency) - starting
        idle = [index for index, slot in enumerate(self._slots) if not slot.is_renting]
        return number in idle[: max(needed, 0)]

    def _require_hope(self) -> None:
        error = self._find_error()
        if isinstance(error, EngineQuotaError) and not any(slot.is_renting for slot in self._slots):
            raise error

    def _find_error(self) -> EngineError | None:
        return next((slot.last_error for slot in self._slots if slot.last_error is not None), None)
