"""Runs tasks on a rented machine, by the Atelier server there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_engines.capabilities import CancelSupport, Capabilities, Price, PriceUnit
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.task import Task
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.vastai.api import NAME, VastApi, refusal
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.keeper import Keeper
from atelier_engines.vendors.vastai.machines import Machines
from atelier_engines.vendors.vastai.states import Ready

_HOUR = 3600.0
_PATIENCE_SECONDS = 60.0


class _Handle(BaseModel):
    model_config = ConfigDict(frozen=True)

    instance: int
    work: str
    """What finds the work on that instance."""


class VastaiEngine:
    """One machine at Vast.ai, rented while there is work for it."""

    def __init__(
        self,
        config: VastaiConfig,
        *,
        delay_scale: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect to nothing yet. `delay_scale` multiplies the pauses between tries of a call."""
        self._config = config
        self._delay_scale = delay_scale
        self._clock = clock
        self._capabilities = Capabilities(
            description="A machine rented at Vast.ai",
            concurrency=config.concurrency,
            cancel=CancelSupport.REMOTE,
        )
        self._vendor: VendorClient | None = None
        self._keeper: Keeper | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Rents a machine, unless one was kept: only there is known what it can do."""
        if self._keeper is None:
            self._vendor = self._connection()
            machines = Machines(VastApi(self._vendor, self._config), self._config, self._clock)
            self._keeper = Keeper(machines, self._config, self._clock)
        await self._keeper.begin()
        async with self._keeper.machine() as ready:
            self._capabilities = self._priced(ready.engine.capabilities)

    async def check(self) -> None:
        """See Engine.check. A machine that was given back for want of work is no fault."""
        self._started.require_hope()

    async def stop(self) -> None:
        """See Engine.stop. Destroys the machine, unless it is to be kept."""
        if self._keeper is not None:
            await self._keeper.end()
            self._keeper = None
        if self._vendor is not None:
            await self._vendor.client.aclose()
            self._vendor = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Waits for a machine first, if none serves.

        Raises:
            EngineQuotaError: the spending cap is reached, or the account empty.
            EngineUnavailableError: no machine served in time.
            EngineFailedError: the machine died, and the work with it.
            EngineError: as the engine there.
        """
        yield Stage(name="rent")
        async with self._started.machine() as ready:
            task = replace(task, resume=_work_on(ready.rental.instance_id, task.resume))
            try:
                async with aclosing(_unless_lost(ready, task)) as events:
                    async for event in events:
                        yield _marked(event, ready.rental.instance_id)
            except EngineTimeoutError as error:
                if await self._started.gone(ready):
                    raise _lost() from error
                raise

    def _connection(self) -> VendorClient:
        key = self._config.api_key.get_secret_value()
        client = connect(self._config.base_url, headers={"authorization": f"Bearer {key}"})
        return VendorClient(
            name=NAME,
            client=client,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_PATIENCE_SECONDS,
            translate_error=refusal,
        )

    def _priced(self, can: Capabilities) -> Capabilities:
        """With the rent as its price: at most so much a second."""
        rent = Price(amount=self._config.max_price_per_hour / _HOUR, unit=PriceUnit.SECOND)
        return replace(can, price=rent)

    @property
    def _started(self) -> Keeper:
        if self._keeper is None:
            raise EngineUnavailableError("the vastai engine has not been started")
        return self._keeper


async def _unless_lost(ready: Ready, task: Task) -> AsyncGenerator[Event]:
    """The task's events, as long as the machine lives.

    Raises:
        EngineFailedError: it was given up.
    """
    losing = asyncio.create_task(ready.lost.wait())
    try:
        async with aclosing(ready.engine.run(task)) as events:
            while True:
                coming = asyncio.create_task(_next(events))
                try:
                    await asyncio.wait([coming, losing], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    coming.cancel()  # no effect when it is done
                    await asyncio.wait([coming])
                if coming.cancelled():
                    raise _lost()
                event = coming.result()
                if event is None:
                    return
                yield event
    finally:
        losing.cancel()
        await asyncio.wait([losing])


async def _next(events: AsyncGenerator[Event]) -> Event | None:
    return await anext(events, None)


def _lost() -> EngineError:
    return EngineFailedError("the rented machine died, and the work on it is lost; try again")


def _marked(event: Event, instance_id: int) -> Event:
    if isinstance(event, Dispatched):
        return Dispatched(handle=_Handle(instance=instance_id, work=event.handle).model_dump_json())
    return event


def _work_on(instance_id: int, handle: str) -> str:
    """What finds the work, if it is on that instance; work on an instance that is no more is begun anew."""
    if not handle:
        return ""
    try:
        found = _Handle.model_validate_json(handle)
    except ValidationError as error:
        raise EngineFailedError(
            "what was noted of the work on the rented machine cannot be read: it is lost"
        ) from error
    return found.work if found.instance == instance_id else ""
