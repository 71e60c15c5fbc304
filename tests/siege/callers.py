"""Callers, each as its kind of generation says; all repeat a call that the server's end has cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import assert_never

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from atelier_client.errors import AtelierError, UnavailableError
from atelier_client.tasks import Keywords
from tests.server.calls import Stub
from tests.siege.connections import Connections, Status, read_status
from tests.siege.plan import DUPLICATES, SIDE, Kind, Planned
from tests.siege.recorder import ENDED, Answer, Asked, Recorder, SeenEvent

_MOST_HANG_UPS = 3
_LONGEST_WAIT_SECONDS = 1.5
"""For which callers wait before they hang up or cancel."""
_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Callers:
    """Ask for generations, and note the answers."""

    connections: Connections
    recorder: Recorder

    async def ask(self, planned: Planned) -> None:
        """Ask for one generation, as its kind says, until the caller has what it wants."""
        chance = random.Random(planned.request_id)
        asked = self.recorder.begin(planned)
        stub = self.connections.stub(chance)
        match planned.kind:
            case Kind.SUBMIT | Kind.FAIL | Kind.TIME_OUT:
                await self._call(stub, planned)
            case Kind.GENERATE:
                await self._generate(planned, chance)
            case Kind.STREAM:
                await self._stream(planned, chance)
            case Kind.HANG_UP:
                await self._hang_up(asked, chance)
                await self._call(stub, planned)
            case Kind.RETRIED:
                await self._call_without_id(asked)
            case Kind.ABANDON:
                await self._hang_up(asked, chance)
            case Kind.HANG_UP_ACCEPTED:
                await self._call(stub, planned)
                await self._hang_up(asked, chance)
                await self._call(stub, planned, on_acceptance=False)
            case Kind.CANCEL:
                await self._call(stub, planned)
                await asyncio.sleep(chance.uniform(0.0, _LONGEST_WAIT_SECONDS))
                await self._cancel(stub, asked)
            case Kind.DUPLICATES:
                await self._duplicate(planned, chance)
            case _:
                assert_never(planned.kind)

    async def _call(
        self, stub: Stub, planned: Planned, *, on_acceptance: bool | None = None
    ) -> None:
        """Call Generate until it is answered."""
        request = planned.message(on_acceptance=on_acceptance)
        while True:
            if await self._note(planned, stub.Generate(request, wait_for_ready=True)):
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _call_without_id(self, asked: Asked) -> None:
        """Call on a connection that repeats calls by itself; then as its error permits."""
        request, stub = asked.planned.message(), self.connections.retrying
        while True:
            try:
                generation = (await stub.Generate(request)).generation
            except aio.AioRpcError as error:
                status = read_status(error)
                if not status.lost:
                    self._note_failure(asked.planned, status)
                    return
                self.recorder.refuse(status.code, status.reason, status.text)
                if not status.reason:  # it may have been accepted: nobody knows
                    asked.gave_up = True
                    return
                request.request_id = status.request_id
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._note_success(asked.planned, generation)
                return

    async def _note(self, planned: Planned, call: Awaitable[pb.GenerateResponse]) -> bool:
        """Note how the call is answered; False if the server was lost."""
        try:
            generation = (await call).generation
        except aio.AioRpcError as error:
            status = read_status(error)
            if status.lost:
                self.recorder.refuse(status.code, status.reason, status.text)
                return False
            self._note_failure(planned, status)
        else:
            self._note_success(planned, generation)
        return True

    def _note_failure(self, planned: Planned, status: Status) -> None:
        answer = Answer(generation_id=status.generation_id, reason=status.reason, code=status.code)
        self.recorder.answer(planned.request_id, answer)

    def _note_success(self, planned: Planned, generation: Generation) -> None:
        state = State.Name(generation.state).removeprefix("STATE_")
        self.recorder.answer(planned.request_id, Answer(generation_id=generation.id, state=state))

    async def _generate(self, planned: Planned, chance: random.Random) -> None:
        client = self.connections.client(chance)
        while True:
            try:
                made = await client.generate(planned.request_id, **_keywords(planned))
            except AtelierError as error:
                if self._note_error(planned, error):
                    return
            else:
                answer = Answer(generation_id=made.id, state=made.state.name)
                self.recorder.answer(planned.request_id, answer)
                return
            await asyncio.sleep(_RETRY_SECONDS)

    async def _stream(self, planned: Planned, chance: random.Random) -> None:
        """Stream with the client until the end of the generation."""
        client = self.connections.client(chance)
        while True:
            stream = None
            try:
                async with aclosing(
                    client.stream(planned.request_id, **_keywords(planned))
                ) as events:
                    async for event in events:
                        if stream is None:
                            stream = self.recorder.open(event.generation_id, 0)
                            self._know(planned, event.generation_id)
                        self.recorder.see(stream, SeenEvent.from_progress(event))
                        if event.state.name in ENDED:
                            answer = Answer(
                                generation_id=event.generation_id, state=event.state.name
                            )
                            self.recorder.answer(planned.request_id, answer)
                            stream.completed = True
                return
            except AtelierError as error:
                if self._note_error(planned, error):
                    return
            await asyncio.sleep(_RETRY_SECONDS)

    def _know(self, planned: Planned, generation_id: str) -> None:
        answer = Answer(generation_id=generation_id, state="QUEUED")
        self.recorder.answer(planned.request_id, answer)

    def _note_error(self, planned: Planned, error: AtelierError) -> bool:
        """Note an error of the client; False if the call is to be repeated."""
        name = type(error).__name__
        if isinstance(error, UnavailableError):
            self.recorder.refuse(name, error.reason, str(error))
            return False
        answer = Answer(generation_id=error.generation_id, reason=error.reason, code=name)
        self.recorder.answer(planned.request_id, answer)
        return True

    async def _hang_up(self, asked: Asked, chance: random.Random) -> None:
        """Wait for the generation in call after call, and drop each after a moment."""
        for _ in range(chance.randint(1, _MOST_HANG_UPS)):
            request = asked.planned.message(on_acceptance=False)
            stub = self.connections.stub(chance)
            seconds = chance.uniform(0.0, _LONGEST_WAIT_SECONDS)
            if chance.random() < 1 / 3:
                noting = self._read_some(stub, asked.planned, request)
            else:
                noting = self._note(asked.planned, stub.Generate(request, wait_for_ready=True))
            try:
                async with asyncio.timeout(seconds):
                    await noting
            except TimeoutError:
                asked.hang_ups += 1
            await asyncio.sleep(chance.uniform(0.0, 0.3))

    async def _read_some(self, stub: Stub, planned: Planned, request: pb.GenerateRequest) -> bool:
        """Read the stream of a call that starts the generation."""
        started = pb.StreamProgressRequest(generate=request)
        stream = None
        try:
            async for event in stub.StreamProgress(started, wait_for_ready=True):
                if stream is None:
                    stream = self.recorder.open(event.generation_id, 0)
                    self._know(planned, event.generation_id)
                if not event.repetition:
                    self.recorder.see(stream, SeenEvent.from_message(event))
        except aio.AioRpcError as error:
            status = read_status(error)
            self.recorder.refuse(status.code, status.reason, status.text)
            return False
        if stream is not None:
            stream.completed = True
        return True

    async def _cancel(self, stub: Stub, asked: Asked) -> None:
        """Cancel on purpose, until the server has answered."""
        known = [answer.generation_id for answer in asked.answers if answer.generation_id]
        if not known:
            return
        request = pb.CancelGenerationRequest(generation_id=known[0])
        while True:
            try:
                answer = await stub.CancelGeneration(request, wait_for_ready=True)
            except aio.AioRpcError as error:
                asked.lost_cancels += 1
                status = read_status(error)
                self.recorder.refuse(status.code, status.reason, status.text)
                if not status.lost:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                asked.cancels.append(answer.outcome)
                return

    async def _duplicate(self, planned: Planned, chance: random.Random) -> None:
        """Call 50 times at once with one request id, some waiting for the end and some not."""
        await asyncio.gather(
            *(
                self._call(
                    self.connections.stub(chance), planned, on_acceptance=chance.random() < 1 / 2
                )
                for _ in range(DUPLICATES)
            )
        )


def _keywords(planned: Planned) -> Keywords:
    return Keywords(
        request_id=planned.request_id,
        engine=planned.engine,
        width=SIDE,
        height=SIDE,
        steps=4,
        seed=planned.seed,
        num_images=planned.images,
        options=planned.options,
    )
