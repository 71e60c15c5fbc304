"""What is done to the server while it works: kills, drains, stops, and a disk that fills up and has space again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.siege.recorder import Recorder
from tests.siege.server import SiegedServer
from tests.small_disk import leave_free, resize

KILL, KILL_TWICE, DRAIN, DRAIN_KILLED, STOP, FULL_DISK = (
    "kill",
    "kill while it starts",
    "drain",
    "kill while it drains",
    "stop and continue",
    "full disk",
)
KILLS = frozenset({KILL, KILL_TWICE, DRAIN_KILLED})
"""Disturbances that end the process without warning."""
_SHARES: Mapping[str, int] = {
    KILL: 30,
    KILL_TWICE: 6,
    DRAIN: 24,
    DRAIN_KILLED: 6,
    STOP: 20,
    FULL_DISK: 14,
}
_DRAIN_SECONDS = (0.0, 0.2, 1.0)
_GRACE_SECONDS = (0.2, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Disturber:
    """Does one thing after the other to the server; each leaves it serving."""

    server: SiegedServer
    recorder: Recorder
    chance: random.Random
    disk_bytes: int
    """Size of the data directory's file system; 0 where it cannot be filled."""
    _next: list[str] = field(default_factory=list)
    """What is done next, from the end."""

    async def disturb(self) -> None:
        """Do something, at a random moment of the next half second."""
        actions: Mapping[str, Callable[[], Awaitable[None]]] = {
            KILL: self._kill,
            KILL_TWICE: self._kill_twice,
            DRAIN: self._drain,
            DRAIN_KILLED: self._kill_in_drain,
            STOP: self._stop,
            FULL_DISK: self._fill_disk,
        }
        kind = self._choose()
        await self._pause(0.5)
        self.recorder.disturb(kind)
        await actions[kind]()
        await self.server.wait_serving()

    def start(self) -> None:
        """Start a process with a short drain and a short grace period."""
        self.server.launch(
            drain_seconds=self.chance.choice(_DRAIN_SECONDS),
            grace_seconds=self.chance.choice(_GRACE_SECONDS),
        )

    def _choose(self) -> str:
        """At first everything once, so that short sieges have all, then by their shares."""
        if not self.recorder.disturbances:
            self._next.extend(self.chance.sample(list(_SHARES), len(_SHARES)))
        elif not self._next:
            self._next.extend(self.chance.choices(list(_SHARES), list(_SHARES.values())))
        kind = self._next.pop()
        return self._choose() if kind == FULL_DISK and not self.disk_bytes else kind

    async def _kill(self) -> None:
        await self.server.kill()
        self.start()

    async def _kill_twice(self) -> None:
        await self._kill()
        await self._pause(4.0)  # a start takes one to three seconds
        self.recorder.disturb(KILL_TWICE)
        await self._kill()

    async def _drain(self) -> None:
        self.server.send(signal.SIGTERM)
        await self.server.wait_exit()
        self.start()

    async def _kill_in_drain(self) -> None:
        self.server.send(signal.SIGTERM)
        await self._pause(1.0)
        await self._kill()

    async def _stop(self) -> None:
        self.server.send(signal.SIGSTOP)
        try:
            await self._pause(3.0)
        finally:
            self.server.send(signal.SIGCONT)

    async def _fill_disk(self) -> None:
        """Leave almost no space, in one of four times kill the server then, and give the space back."""
        leave_free(self.server.data, self.chance.randrange(0, 128 * 1024))
        try:
            await self._pause(4.0)
            if self.chance.random() < 1 / 4:
                self.recorder.disturb(KILL)
                await self.server.kill()
        finally:
            resize(self.server.data, self.disk_bytes)
        if self.server.running.process.poll() is not None:
            self.start()

    async def _pause(self, most_seconds: float) -> None:
        await asyncio.sleep(self.chance.uniform(0.0, most_seconds))
