"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, Unpack, overload

import grpc

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_client import media, operations
from atelier_client.action_runner import ActionRunner, IoFunctions
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
from atelier_client.channel import build_channel_options, names_server
from atelier_client.engines import Capabilities, EnginePause
from atelier_client.enums import State
from atelier_client.errors import AtelierError, InvalidRequestError
from atelier_client.kept_status import finish_upload
from atelier_client.media import Artifact, Media, Resolved
from atelier_client.requests import build_request
from atelier_client.results import Cancellation, Generation, Health, Plan, Progress
from atelier_client.tasks import Batch, Keywords, Task


async def _receive_headers(stream: Any) -> bool:  # noqa: ANN401 - a call of gRPC
    return names_server(await stream.initial_metadata())


async def _receive(stream: Any) -> Any:  # noqa: ANN401 - a call and a message of gRPC
    message = await stream.read()
    return None if message is grpc.aio.EOF else message


async def _read_media(source: Media) -> Resolved:
    return await asyncio.to_thread(media.resolve, source)


_IO_FUNCTIONS = IoFunctions(
    receive_headers=_receive_headers, receive=_receive, sleep=asyncio.sleep, read_media=_read_media
)


class AsyncClient(BaseClient):
    """A connection to one server, for asyncio; it belongs to the event loop of its first call, until that is closed.

    Errors are AtelierErrors, see `atelier_client.errors`. With a prompt, the fields of an ImageTask may
    be given as keywords; with any task, `engine`, `options`, `strict`, `strict_except`,
    `request_id`, `timeout_seconds` and `priority`.
    """

    def _open_channel(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def _use_channel(self) -> GenerationServiceStub:
        """The stub of the channel of the running loop, which is opened now if the last one's loop is closed.

        Raises:
            InvalidRequestError: the channel is in use in another loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise InvalidRequestError(
                    "this client belongs to another event loop: make an AsyncClient for each"
                )
            self._loop = loop
            at = self._connection
            self._channel = (
                grpc.aio.insecure_channel(at.address, build_channel_options(at.server_name))
                if at.credentials is None
                else grpc.aio.secure_channel(
                    at.address, at.credentials, build_channel_options(at.server_name)
                )
            )
            self._stub = GenerationServiceStub(self._channel)
        return self._stub

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel the calls under way, and close the connection; a closed client stays closed."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            await self._channel.close()

    @overload
    async def generate(self, task: Task, **keywords: Unpack[Keywords]) -> Generation: ...  # type: ignore[overload-overlap]  # text is a sequence of texts, too

    @overload
    async def generate(
        self, task: Batch, **keywords: Unpack[Keywords]
    ) -> tuple[Generation, ...]: ...

    async def generate(
        self, task: Task | Batch, **keywords: Unpack[Keywords]
    ) -> Generation | tuple[Generation, ...]:
        """Run a task to its end, and return the generation with the bytes of its outputs.

        Several tasks run at the same time, up to eight; all run to their ends, also when some fail. Cancelling
        the call cancels what has not ended. A lost connection does not: it is followed again.

        Raises:
            AtelierError: the task failed.
            BatchError: some of several tasks failed; its `results` has the outcomes of all.
        """
        started = self._start(task, keywords)
        try:
            return await self._run(started.result())
        finally:
            await self._run(started.leave())

    async def submit(self, task: Task, **keywords: Unpack[Keywords]) -> Generation:
        """Start a task, and return the generation once it is accepted; it runs without the caller.

        Leaving the call before it returns, by Ctrl-C or a cancellation, cancels the generation.
        """
        started = self._start_stream(task, keywords)
        try:
            return await self._run(started.start())
        except BaseException:
            await self._run(started.leave())
            raise

    async def stream(self, task: Task, **keywords: Unpack[Keywords]) -> AsyncGenerator[Progress]:
        """Start a task, and yield its events to the end; the last one has the bytes of the outputs.

        Each event is yielded once, also when the connection breaks or the server restarts. Closing the
        generator before the end cancels the generation.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        started = self._start_stream(task, keywords)
        try:
            async with aclosing(self._deliver(started.events())) as events:
                async for event in events:
                    yield event
        finally:
            await self._run(started.leave())

    def follow(
        self, generation_id: str, *, after_sequence: int = 0, fetch: bool = False
    ) -> AsyncGenerator[Progress]:
        """Yield the events of a generation after `after_sequence`, to its end.

        Each event is yielded once, also when the connection breaks or the server restarts. Closing the
        generator leaves the generation running. With `fetch`, the last event has the bytes of the outputs.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        return self._deliver(
            operations.follow(generation_id, after_sequence, self._policy, fetch_outputs=fetch)
        )

    async def plan(self, task: Task, **keywords: Unpack[Keywords]) -> Plan:
        """The engine, parameters and cost that a task would have; nothing is started."""
        return await self._run(operations.plan(build_request(task, keywords), self._new_media()))

    async def get(self, generation_id: str) -> Generation:
        """The current state of a generation, with the bytes of its small outputs; `fetch` adds the others."""
        return await self._run(operations.get(generation_id))

    def list(
        self, *, engine: str = "", states: tuple[State, ...] = (), page_size: int = 50
    ) -> AsyncGenerator[Generation]:
        """Yield every generation, newest first, fetched page by page.

        Their receipts have no parameters and no recipe, which `get` returns.
        """
        return self._deliver(
            operations.list_generations(engine=engine, states=states, page_size=page_size)
        )

    async def cancel(self, generation_id: str, *, may_run_again: bool = False) -> Cancellation:
        """Cancel a generation; the result says whether and at which step it was stopped.

        With `may_run_again` the same request id runs it again, as after the loss of its callers; else it stays so.
        """
        return await self._run(operations.cancel(generation_id, may_run_again=may_run_again))

    async def capabilities(self, engine: str = "") -> Capabilities:
        """The capabilities and the load of all engines, or of one."""
        return await self._run(operations.capabilities(engine))

    async def health(self) -> Health:
        """The health of the server and of its engines."""
        return await self._run(operations.health())

    async def pause(self, engine: str, reason: str = "") -> EnginePause:
        """Let an engine begin nothing more, also after a restart; what it runs goes on."""
        return await self._run(operations.pause(engine, reason))

    async def resume(self, engine: str) -> bool:
        """Let a paused engine begin what waits for it; whether it was paused."""
        return await self._run(operations.resume_engine(engine))

    async def clear_queue(self, engine: str, reason: str = "") -> int:
        """Cancel everything that waits for an engine, of all callers; how many that were."""
        return await self._run(operations.clear_queue(engine, reason))

    async def upload(self, source: Media, *, media_type: str = "") -> Artifact:
        """Store local media, to use in tasks; the media type is detected from the first bytes."""
        return await self._run(operations.upload(source, media_type, self._policy))

    async def download(self, artifact: Artifact | str) -> bytes:
        """The bytes of an artifact, given itself or its id, verified by their SHA-256.

        An interrupted download continues at the byte where it stopped.

        Raises:
            TransferError: the bytes are not those that were stored.
        """
        return await self._run(operations.download(artifact, self._policy))

    async def fetch(self, generation: Generation) -> Generation:
        """The generation with the bytes of all its outputs."""
        return await self._run(operations.fetch(generation, self._policy))

    async def _run(self, operation: Operation[R]) -> R:
        """Run the actions of an operation, and return its result."""
        with closing(operation), self._new_runner() as runner:
            step = resume(operation)
            while not isinstance(step, Done):
                step = resume(operation, await self._perform(runner, step))
            return step.result

    async def _deliver(self, operation: Streaming[E]) -> AsyncGenerator[E]:
        """Run the actions of an operation, and yield the items that it delivers."""
        with closing(operation), self._new_runner() as runner:
            step = resume(operation)
            while not isinstance(step, Done):
                if isinstance(step, Deliver):
                    yield step.item
                    step = resume(operation)
                else:
                    step = resume(operation, await self._perform(runner, step))

    def _new_runner(self) -> ActionRunner:
        return ActionRunner(self._use_channel, self._connection, _IO_FUNCTIONS)

    async def _perform(self, runner: ActionRunner, action: Action) -> Answer | AtelierError:
        """Run an action, and return its answer or its error."""
        try:
            self._check_open()
            answer = runner.start(action)
            if isinstance(answer, grpc.aio.StreamUnaryCall):
                answer = finish_upload(answer)
            received: Answer = await answer if isawaitable(answer) else answer
        except AtelierError as error:
            return error
        except (
            grpc.RpcError,
            grpc.aio.UsageError,
        ) as error:  # UsageError: the channel was closed just now
            return self._translate(error)
        except asyncio.CancelledError as error:
            if self._closed and not _is_cancelled():  # gRPC cancels the calls of a closed channel
                return self._translate(error)
            raise
        return received


def _is_cancelled() -> bool:
    """Whether somebody cancels the running task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
