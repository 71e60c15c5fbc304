"""The vastai engine: runs tasks on a rented instance, through the Atelier server on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from pydantic import BaseModel, ConfigDict, ValidationError

from atelier_engines.capabilities import CancelSupport, Capabilities, Price, PriceUnit
from atelier_engines.closing import naming_left
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.task import Task
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.vastai.api import NAME, VastApi, translate_rejection
from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.instances import Instances
from atelier_engines.vendors.vastai.pool import InstancePool
from atelier_engines.vendors.vastai.states import Ready

_HOUR_SECONDS = 3600.0
_RESPONSE_TIMEOUT_SECONDS = 60.0


class _Handle(BaseModel):
    model_config = ConfigDict(frozen=True)

    instance: int
    work: str
    """Handle of the task on that instance."""


class VastaiEngine:
    """Instances at Vast.ai, rented while there are tasks for them."""

    def __init__(
        self,
        config: VastaiConfig,
        *,
        delay_scale: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nothing yet; `delay_scale` multiplies the pauses between attempts of a request."""
        self._config = config
        self._delay_scale = delay_scale
        self._clock = clock
        self._capabilities = Capabilities(
            description="An instance rented at Vast.ai",
            concurrency=config.concurrency * config.max_instances,
            cancel=CancelSupport.REMOTE,
            resumable=True,
            billed=True,
        )
        self._vendor: VendorClient | None = None
        self._pool: InstancePool | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Rents an instance, unless one was kept, to read its engine's capabilities."""
        if self._pool is None:
            self._vendor = self._connect()
            instances = Instances(VastApi(self._vendor, self._config), self._config, self._clock)
            self._pool = InstancePool(instances, self._config, self._clock)
        await self._pool.start()
        async with self._pool.acquire() as ready:
            self._capabilities = self._with_price(ready.engine.capabilities)

    async def check(self) -> None:
        """See Engine.check. An instance that was released because it was idle is not a fault."""
        self._require_started().require_obtainable()

    async def stop(self) -> None:
        """See Engine.stop. Destroys the instance, unless it is to be kept."""
        if self._pool is not None:
            await self._pool.stop()
            self._pool = None
        if self._vendor is not None:
            await self._vendor.close()
            self._vendor = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Waits for a ready instance first.

        Raises:
            EngineQuotaError: the spending cap is reached, or the account has no credit.
            EngineUnavailableError: no instance was ready in time.
            EngineFailedError: the instance was lost, and the task with it.
            EngineError: as the engine on the instance.
        """
        if not task.resume:
            yield Stage(name="rent")
        pool = self._require_started()
        async with pool.acquire() as ready:
            instance_id = ready.rental.instance_id
            task = replace(task, resume=_inner_handle(instance_id, task.resume))
            try:
                with naming_left(partial(_outer_handle, instance_id)):
                    async with aclosing(_run_unless_lost(ready, task)) as events:
                        async for event in events:
                            yield _add_instance(event, instance_id)
            except EngineTimeoutError as error:
                if await pool.is_lost(ready):
                    raise _lost_error() from error
                raise

    def _connect(self) -> VendorClient:
        key = self._config.api_key.get_secret_value()
        client = connect(self._config.base_url, headers={"authorization": f"Bearer {key}"})
        return VendorClient(
            name=NAME,
            client=client,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS,
            translate_error=translate_rejection,
        )

    def _with_price(self, capabilities: Capabilities) -> Capabilities:
        """Add the maximum rent per second as the price."""
        rent = Price(amount=self._config.max_price_per_hour / _HOUR_SECONDS, unit=PriceUnit.SECOND)
        most = self._config.concurrency * self._config.max_instances
        return replace(capabilities, price=rent, concurrency=most)

    def _require_started(self) -> InstancePool:
        if self._pool is None:
            raise EngineUnavailableError("the vastai engine has not been started")
        return self._pool


async def _run_unless_lost(ready: Ready, task: Task) -> AsyncGenerator[Event]:
    """Yield the task's events until it ends or the instance is lost.

    Raises:
        EngineFailedError: the instance was lost.
    """
    losing = asyncio.create_task(ready.lost.wait())
    try:
        async with aclosing(ready.engine.run(task)) as events:
            while True:
                pending = asyncio.create_task(_next(events))
                try:
                    await asyncio.wait([pending, losing], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pending.cancel()  # no effect when it is done
                    await asyncio.wait([pending])
                if pending.cancelled():
                    raise _lost_error()
                event = pending.result()
                if event is None:
                    return
                yield event
    finally:
        losing.cancel()
        await asyncio.wait([losing])


async def _next(events: AsyncGenerator[Event]) -> Event | None:
    return await anext(events, None)


def _lost_error() -> EngineError:
    return EngineFailedError("the rented instance was lost, and the task on it; try again")


def _add_instance(event: Event, instance_id: int) -> Event:
    if isinstance(event, Dispatched):
        return Dispatched(handle=_outer_handle(instance_id, event.handle))
    if isinstance(event, Output):
        return replace(event, charge=None)  # what it costs is the rent
    return event


def _outer_handle(instance_id: int, work: str) -> str:
    return _Handle(instance=instance_id, work=work).model_dump_json()


def _inner_handle(instance_id: int, handle: str) -> str:
    """Return the handle of the task on that instance; empty if the task ran on another one, and must restart."""
    if not handle:
        return ""
    try:
        found = _Handle.model_validate_json(handle)
    except ValidationError as error:
        raise EngineFailedError(
            "vastai: the task on the rented instance is lost: its handle cannot be parsed"
        ) from error
    return found.work if found.instance == instance_id else ""
