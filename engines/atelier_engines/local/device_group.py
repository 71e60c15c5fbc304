"""Several devices as one engine: an engine on each, and every task on that with the fewest tasks."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineError, EngineUnavailableError
from atelier_engines.event import Event
from atelier_engines.local.config import LocalModelConfig
from atelier_engines.task import Task

_log = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=LocalModelConfig)
_WEAKEST_FIRST = (
    Reproducibility.BEST_EFFORT,
    Reproducibility.SAME_ENGINE,
    Reproducibility.BIT_EXACT,
)


@dataclass(slots=True, eq=False)
class _Member:
    """The engine on one device."""

    device: str
    engine: Engine
    tasks: int = 0
    """Tasks that it runs now."""
    fault: EngineError | None = None
    """Why it gets no tasks; None while it works."""


class DeviceGroup:
    """Engines of one configuration, each on a device of its own. See Engine."""

    def __init__(self, engines: Sequence[tuple[str, Engine]]) -> None:
        """Take the engines with the names of their devices; at least one, none of them started."""
        self._members = [_Member(device, engine) for device, engine in engines]

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities: those of the first, with the concurrency of all.

        The same recipe is reproduced as exactly as the weakest does it, and not bit by bit on devices that differ.
        """
        every = [member.engine.capabilities for member in self._members]
        reproducibility = min((one.reproducibility for one in every), key=_WEAKEST_FIRST.index)
        kinds = {member.device.partition(":")[0] for member in self._members}
        if len(kinds) > 1 and reproducibility is Reproducibility.BIT_EXACT:
            reproducibility = Reproducibility.SAME_ENGINE
        concurrency = sum(one.concurrency for one in every)
        return replace(every[0], concurrency=concurrency, reproducibility=reproducibility)

    async def start(self) -> None:
        """See Engine.start. One device after the other; if one fails, none stays started."""
        try:
            for member in self._members:
                await member.engine.start()
                member.fault = None
        except BaseException:
            await self.stop()
            raise

    async def check(self) -> None:
        """See Engine.check. A device that fails gets no tasks until a later check passes; fails if all do."""
        for member in self._members:
            try:
                await member.engine.check()
            except EngineError as error:
                details = {"device": member.device, "error": str(error)}
                _log.warning("device_left_out", extra=details)
                member.fault = error
            else:
                member.fault = None
        self._choose()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. On the device with the fewest tasks; of equals, the first."""
        member = self._choose()
        member.tasks += 1
        try:
            async with aclosing(member.engine.run(task)) as events:
                async for event in events:
                    yield event
        finally:
            member.tasks -= 1

    async def stop(self) -> None:
        """See Engine.stop."""
        for member in self._members:
            await member.engine.stop()

    def _choose(self) -> _Member:
        """The member for the next task.

        Raises:
            EngineUnavailableError: no device works.
        """
        working = [member for member in self._members if member.fault is None]
        if not working:
            reasons = "; ".join(f"{member.device}: {member.fault}" for member in self._members)
            raise EngineUnavailableError(f"no device works: {reasons}")
        return min(working, key=lambda member: member.tasks)


def create_for_devices(config: ConfigT, create: Callable[[ConfigT], Engine]) -> Engine:
    """The engine that `create` makes of a configuration for one device, or one for each of `devices`."""
    if not config.devices:
        return create(config)
    return DeviceGroup(
        [
            (device, create(config.model_copy(update={"device": device, "devices": ()})))
            for device in config.devices
        ]
    )
