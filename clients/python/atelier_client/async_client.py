"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from inspect import isawaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_client import media, operations
from atelier_client.actions import (
    Action,
    Answer,
    Deliver,
    Done,
    E,
    Operation,
    R,
    Streaming,
    resume,
)
from atelier_client.base_client import BaseClient
from atelier_client.channel import channel_options
from atelier_client.engines import Capabilities
from atelier_client.enums import State
from atelier_client.errors import AtelierError
from atelier_client.media import Artifact, LocalMedia
from atelier_client.performer import Performer, Primitives
from atelier_client.requests import request_from
from atelier_client.results import Cancellation, Generation, Health, Plan, Progress
from atelier_client.status import error_from_rpc
from atelier_client.tasks import AudioTask, ImageTask, Keywords


async def _receive(stream: Any) -> Any:  # noqa: ANN401 - a call and a message of gRPC
    message = await stream.read()
    return None if message is grpc.aio.EOF else message


async def _read_file(path: Path) -> bytes:
    return await asyncio.to_thread(media.read, path)


_PRIMITIVES = Primitives(receive=_receive, sleep=asyncio.sleep, read_file=_read_file)


class AsyncClient(BaseClient):
    """A connection to one server, for asyncio; make it inside a running event loop.

    Every method raises an AtelierError, of the kind that `atelier_client.errors` draws. The
    fields of an ImageTask may be given as keywords beside a prompt; `engine`, `options`, `strict`,
    `request_id` and `timeout_seconds` beside any task.
    """

    def _open_channel(self) -> None:
        at = self._connection
        self._channel = (
            grpc.aio.insecure_channel(at.address, channel_options())
            if at.credentials is None
            else grpc.aio.secure_channel(at.address, at.credentials, channel_options())
        )
        self._stub = GenerationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel the calls under way, and close the connection."""
        await self._channel.close()

    async def generate(
        self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]
    ) -> Generation:
        """Run a task to its end and return the generation with its outputs' bytes.

        Leaving early, or losing the connection, cancels the generation; `stream` survives a
        lost connection.
        """
        request = request_from(task, keywords)
        return await self._run(operations.generate(request, self._policy))

    async def submit(
        self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]
    ) -> Generation:
        """Start a task and return as soon as it is accepted; it then runs on its own."""
        request = request_from(task, keywords)
        return await self._run(operations.submit(request, self._policy))

    async def stream(
        self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]
    ) -> AsyncGenerator[Progress]:
        """Start a task and follow it to its end; the last event has the outputs' bytes.

        Each event comes once, also when the connection breaks or the server restarts. Leaving
        early (closing the generator) cancels the generation.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        started = operations.StartedStream(
            request=request_from(task, keywords), policy=self._policy
        )
        try:
            async with aclosing(self._deliver(started.events())) as events:
                async for event in events:
                    yield event
        finally:
            await self._run(started.leave())

    def follow(
        self, generation_id: str, *, after_sequence: int = 0, fetch: bool = False
    ) -> AsyncGenerator[Progress]:
        """Follow a generation from the event after `after_sequence` to its end.

        Each event comes once, also when the connection breaks or the server restarts. Leaving
        does not touch the generation. `fetch` brings the outputs' bytes with the last event.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        return self._deliver(
            operations.follow(generation_id, after_sequence, self._policy, fetch_outputs=fetch)
        )

    async def plan(self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]) -> Plan:
        """What a task would do and cost, without doing it."""
        request = request_from(task, keywords)
        return await self._run(operations.plan(request, self._policy))

    async def get(self, generation_id: str) -> Generation:
        """A generation as it stands, with its small outputs' bytes; see `fetch` for the others."""
        return await self._run(operations.get(generation_id))

    def list(
        self, *, engine: str = "", states: tuple[State, ...] = (), page_size: int = 50
    ) -> AsyncGenerator[Generation]:
        """Every generation, newest first, fetched page by page."""
        return self._deliver(
            operations.list_generations(engine=engine, states=states, page_size=page_size)
        )

    async def cancel(self, generation_id: str) -> Cancellation:
        """Stop a generation; the answer says what was really stopped."""
        return await self._run(operations.cancel(generation_id))

    async def capabilities(self, engine: str = "") -> Capabilities:
        """What the service, or one engine of it, can do."""
        return await self._run(operations.capabilities(engine))

    async def health(self) -> Health:
        """Whether the service and its engines can work now."""
        return await self._run(operations.health())

    async def upload(self, source: LocalMedia, *, media_type: str = "") -> Artifact:
        """Store a file, or bytes, to use in tasks; the media type is read from the first bytes."""
        return await self._run(operations.upload(source, media_type, self._policy))

    async def download(self, artifact: Artifact | str) -> bytes:
        """The bytes of an artifact, or of the id of one, checked against their sha256.

        A download that breaks off continues at the byte where it broke.

        Raises:
            TransferError: the bytes are not those that were stored.
        """
        return await self._run(operations.download(artifact, self._policy))

    async def fetch(self, generation: Generation) -> Generation:
        """The same generation with the bytes of all its outputs."""
        return await self._run(operations.fetch(generation, self._policy))

    async def _run(self, operation: Operation[R]) -> R:
        """Perform what the operation asks for, and return its result."""
        with closing(operation), self._performer() as performer:
            step = resume(operation)
            while not isinstance(step, Done):
                step = resume(operation, await _perform(performer, step))
            return step.result

    async def _deliver(self, operation: Streaming[E]) -> AsyncGenerator[E]:
        """Perform what the operation asks for, and yield what it delivers."""
        with closing(operation), self._performer() as performer:
            step = resume(operation)
            while not isinstance(step, Done):
                if isinstance(step, Deliver):
                    yield step.item
                    step = resume(operation)
                else:
                    step = resume(operation, await _perform(performer, step))

    def _performer(self) -> Performer:
        return Performer(self._stub, self._connection, _PRIMITIVES)


async def _perform(performer: Performer, action: Action) -> Answer | AtelierError:
    """Perform an action; returns its answer, or the error that it failed with."""
    try:
        answer = performer.start(action)
        received: Answer = await answer if isawaitable(answer) else answer
    except grpc.RpcError as error:
        return error_from_rpc(error)
    except AtelierError as error:
        return error
    return received
