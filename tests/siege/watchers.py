"""Watchers, who attach to generations, leave, and attach again after the last event that they saw."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier_client.errors import AtelierError
from tests.siege.connections import Connections, read_status
from tests.siege.recorder import ENDED, Recorder, SeenEvent, Stream

_LONGEST_WATCH_SECONDS = 6.0
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watchers:
    """Watch generations that callers were promised, until they are cancelled."""

    connections: Connections
    recorder: Recorder

    async def watch(self, seed: int) -> None:
        """Be one watcher: follow one generation after the other, each to its end."""
        chance = random.Random(seed)
        while True:
            await asyncio.sleep(chance.uniform(0.0, 2 * _PAUSE_SECONDS))
            living = list(self.recorder.living())
            if living:
                await self._follow(chance.choice(living[-50:]), chance)

    async def _follow(self, generation_id: str, chance: random.Random) -> None:
        """Attach again and again until the generation has ended."""
        after = 0
        while True:
            stream = self.recorder.open(generation_id, after)
            await self._attach(stream, chance)
            if stream.events:
                after = stream.events[-1].sequence
            if stream.completed or (stream.events and stream.events[-1].state in ENDED):
                return
            await asyncio.sleep(chance.uniform(0.0, _PAUSE_SECONDS))

    async def _attach(self, stream: Stream, chance: random.Random) -> None:
        """Read events until the end, the loss of the server, or the moment at which the watcher leaves."""
        seconds = chance.uniform(0.0, _LONGEST_WATCH_SECONDS)
        read = self._read_client if chance.random() < 1 / 3 else self._read
        try:
            async with asyncio.timeout(seconds):
                await read(stream, chance)
        except TimeoutError:
            pass
        except AtelierError as error:  # after the last event, that of the generation
            stream.completed = bool(stream.events) and stream.events[-1].state in ENDED
            if not stream.completed:
                self.recorder.refuse(type(error).__name__, error.reason, str(error))
        except aio.AioRpcError as error:
            status = read_status(error)
            self.recorder.refuse(status.code, status.reason, status.text)

    async def _read(self, stream: Stream, chance: random.Random) -> None:
        request = pb.StreamProgressRequest(
            generation_id=stream.generation_id, after_sequence=stream.after
        )
        stub = self.connections.stub(chance)
        async for event in stub.StreamProgress(request, wait_for_ready=True):
            if not event.repetition:
                self.recorder.see(stream, SeenEvent.from_message(event))
        stream.completed = True

    async def _read_client(self, stream: Stream, chance: random.Random) -> None:
        client = self.connections.client(chance)
        followed = client.follow(stream.generation_id, after_sequence=stream.after)
        async with aclosing(followed) as events:
            async for event in events:
                self.recorder.see(stream, SeenEvent.from_progress(event))
        stream.completed = True
