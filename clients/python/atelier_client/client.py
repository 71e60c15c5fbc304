"""The synchronous client: blocking calls, no event loop."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from types import TracebackType
from typing import Self, Unpack, overload

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
from atelier_client.errors import AtelierError
from atelier_client.media import Artifact, Media
from atelier_client.requests import build_request
from atelier_client.results import Cancellation, Generation, Health, Plan, Progress
from atelier_client.tasks import Batch, Keywords, Task

_IO_FUNCTIONS = IoFunctions(
    receive_headers=lambda stream: names_server(stream.initial_metadata()),
    receive=lambda stream: next(stream, None),
    sleep=time.sleep,
    read_media=media.resolve,
)


class Client(BaseClient):
    """A connection to one server, for blocking code; threads may share it.

    Errors are AtelierErrors, see `atelier_client.errors`. With a prompt, the fields of an ImageTask may
    be given as keywords; with any task, `engine`, `options`, `strict`, `strict_except`,
    `request_id`, `timeout_seconds` and `priority`.
    """

    def _open_channel(self) -> None:
        at = self._connection
        self._channel = (
            grpc.insecure_channel(at.address, build_channel_options(at.server_name))
            if at.credentials is None
            else grpc.secure_channel(
                at.address, at.credentials, build_channel_options(at.server_name)
            )
        )
        self._stub = GenerationServiceStub(self._channel)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the calls under way, and close the connection; a closed client stays closed."""
        self._closed = True
        self._channel.close()

    @overload
    def generate(self, task: Task, **keywords: Unpack[Keywords]) -> Generation: ...  # type: ignore[overload-overlap]  # text is a sequence of texts, too

    @overload
    def generate(self, task: Batch, **keywords: Unpack[Keywords]) -> tuple[Generation, ...]: ...

    def generate(
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
            return self._run(started.result())
        finally:
            self._run(started.leave())

    def submit(self, task: Task, **keywords: Unpack[Keywords]) -> Generation:
        """Start a task, and return the generation once it is accepted; it runs without the caller.

        Leaving the call before it returns, by Ctrl-C or a cancellation, cancels the generation.
        """
        started = self._start_stream(task, keywords)
        try:
            return self._run(started.start())
        except BaseException:
            self._run(started.leave())
            raise

    def stream(self, task: Task, **keywords: Unpack[Keywords]) -> Generator[Progress]:
        """Start a task, and yield its events to the end; the last one has the bytes of the outputs.

        Each event is yielded once, also when the connection breaks or the server restarts. Closing the
        generator before the end cancels the generation.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        started = self._start_stream(task, keywords)
        try:
            with closing(self._deliver(started.events())) as events:
                yield from events
        finally:
            self._run(started.leave())

    def follow(
        self, generation_id: str, *, after_sequence: int = 0, fetch: bool = False
    ) -> Generator[Progress]:
        """Yield the events of a generation after `after_sequence`, to its end.

        Each event is yielded once, also when the connection breaks or the server restarts. Closing the
        generator leaves the generation running. With `fetch`, the last event has the bytes of the outputs.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        return self._deliver(
            operations.follow(generation_id, after_sequence, self._policy, fetch_outputs=fetch)
        )

    def plan(self, task: Task, **keywords: Unpack[Keywords]) -> Plan:
        """The engine, parameters and cost that a task would have; nothing is started."""
        return self._run(operations.plan(build_request(task, keywords), self._new_media()))

    def get(self, generation_id: str) -> Generation:
        """The current state of a generation, with the bytes of its small outputs; `fetch` adds the others."""
        return self._run(operations.get(generation_id))

    def list(
        self, *, engine: str = "", states: tuple[State, ...] = (), page_size: int = 50
    ) -> Generator[Generation]:
        """Yield every generation, newest first, fetched page by page.

        Their receipts have no parameters and no recipe, which `get` returns.
        """
        return self._deliver(
            operations.list_generations(engine=engine, states=states, page_size=page_size)
        )

    def cancel(self, generation_id: str, *, may_run_again: bool = False) -> Cancellation:
        """Cancel a generation; the result says whether and at which step it was stopped.

        With `may_run_again` the same request id runs it again, as after the loss of its callers; else it stays so.
        """
        return self._run(operations.cancel(generation_id, may_run_again=may_run_again))

    def capabilities(self, engine: str = "") -> Capabilities:
        """The capabilities and the load of all engines, or of one."""
        return self._run(operations.capabilities(engine))

    def health(self) -> Health:
        """The health of the server and of its engines."""
        return self._run(operations.health())

    def pause(self, engine: str, reason: str = "") -> EnginePause:
        """Let an engine begin nothing more, also after a restart; what it runs goes on."""
        return self._run(operations.pause(engine, reason))

    def resume(self, engine: str) -> bool:
        """Let a paused engine begin what waits for it; whether it was paused."""
        return self._run(operations.resume_engine(engine))

    def clear_queue(self, engine: str, reason: str = "") -> int:
        """Cancel everything that waits for an engine, of all callers; how many that were."""
        return self._run(operations.clear_queue(engine, reason))

    def upload(self, source: Media, *, media_type: str = "") -> Artifact:
        """Store local media, to use in tasks; the media type is detected from the first bytes."""
        return self._run(operations.upload(source, media_type, self._policy))

    def download(self, artifact: Artifact | str) -> bytes:
        """The bytes of an artifact, given itself or its id, verified by their SHA-256.

        An interrupted download continues at the byte where it stopped.

        Raises:
            TransferError: the bytes are not those that were stored.
        """
        return self._run(operations.download(artifact, self._policy))

    def fetch(self, generation: Generation) -> Generation:
        """The generation with the bytes of all its outputs."""
        return self._run(operations.fetch(generation, self._policy))

    def _run(self, operation: Operation[R]) -> R:
        """Run the actions of an operation, and return its result."""
        with closing(operation), self._new_runner() as runner:
            step = resume(operation)
            while not isinstance(step, Done):
                step = resume(operation, self._perform(runner, step))
            return step.result

    def _deliver(self, operation: Streaming[E]) -> Generator[E]:
        """Run the actions of an operation, and yield the items that it delivers."""
        with closing(operation), self._new_runner() as runner:
            step = resume(operation)
            while not isinstance(step, Done):
                if isinstance(step, Deliver):
                    yield step.item
                    step = resume(operation)
                else:
                    step = resume(operation, self._perform(runner, step))

    def _new_runner(self) -> ActionRunner:
        return ActionRunner(lambda: self._stub, self._connection, _IO_FUNCTIONS)

    def _perform(self, runner: ActionRunner, action: Action) -> Answer | AtelierError:
        """Run an action, and return its answer or its error."""
        try:
            self._check_open()
            answer: Answer = runner.start(action)
        except AtelierError as error:
            return error
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed just now
            return self._translate(error)
        return answer
