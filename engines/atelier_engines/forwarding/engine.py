"""An engine that forwards its tasks to an engine of another Atelier server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from functools import partial

import atelier_client as client
from atelier_client.errors import AtelierError, ConflictError, ServerUnreachableError
from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
)
from atelier_engines.closing import Stop, keeps_job, report_stop
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.forwarding import errors
from atelier_engines.forwarding.capabilities import decode_capabilities
from atelier_engines.forwarding.client_tasks import build_client_task
from atelier_engines.forwarding.config import ForwardingConfig
from atelier_engines.forwarding.events import EventMapper
from atelier_engines.forwarding.handle import Handle, parse_handle
from atelier_engines.task import Task
from atelier_engines.threads import result_from_thread

_RETRY_DELAY_SECONDS = 0.25
_GRACE_SECONDS = 10.0  # for the other server to confirm a cancellation
_CALL_TIMEOUT_SECONDS = 10.0
_STOPS = {
    client.CancelOutcome.NEVER_STARTED: Stop.NEVER_STARTED,
    client.CancelOutcome.STOPPED: Stop.STOPPED,
    client.CancelOutcome.TOO_LATE: Stop.ENDED,
}
"""What became of a generation on the other server; every other outcome says that it may go on."""


class _Retries:
    """Limits the time of retries; it counts from the first failure, however long the attempt before it took."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._end: float | None = None

    def are_exhausted(self) -> bool:
        """Record a failure; True if the time is over."""
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._timeout_seconds
        return now > self._end


class ForwardingEngine:
    """Forwards tasks to the server at `address`; its capabilities are those of the engine there."""

    def __init__(self, address: str, config: ForwardingConfig, *, concurrency: int) -> None:
        """Keep the address; `start` connects."""
        self._address = address
        self._config = config
        self._concurrency = concurrency
        self._capabilities = Capabilities(
            description=f"An engine of the Atelier server at {address}",
            concurrency=concurrency,
            cancel=CancelSupport.REMOTE,
            resumable=True,
            billed=True,
        )
        self._client: client.AsyncClient | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Asks the other server for the capabilities of the engine."""
        await self.stop()
        connected = await self._connect()
        try:
            found = await connected.capabilities()
            self._capabilities = decode_capabilities(
                found, self._config.engine, concurrency=self._concurrency
            )
        except AtelierError as error:
            await connected.close()
            raise errors.translate_rejection(error) from error
        except BaseException:
            await connected.close()
            raise
        self._client = connected

    async def check(self) -> None:
        """See Engine.check. Asks the other server for the health of itself and of the engine."""
        try:
            health = await self._connected.health()
        except AtelierError as error:
            raise errors.translate_rejection(error) from error
        if health.status != client.ServingStatus.SERVING and not health.accepts_generations:
            reason = health.message or "it is draining"
            raise EngineUnavailableError(f"the other server does not accept generations: {reason}")
        wanted = [engine for engine in health.engines if self._config.engine in {"", engine.engine}]
        if not any(engine.state == client.EngineState.READY for engine in wanted):
            reason = "; ".join(engine.message for engine in wanted) or "there is no such engine"
            raise EngineUnavailableError(f"the engine of the other server is not ready: {reason}")

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it cancels the generation there, and waits until it has stopped.

        Where the engine there cannot be cancelled, or the job is to be kept, the generation continues.

        Raises:
            EngineUnavailableError: the other server is unreachable, and nothing was started.
            EngineUncertainError: it became unreachable while the task was sent.
            EngineTimeoutError: it became unreachable afterwards, or the time limit was exceeded.
            EngineError: the engine there failed, see `forwarding.errors`.
        """
        yield Stage(name="submit")
        handle = Handle(request_id=uuid.uuid4().hex)
        if task.resume:
            handle = parse_handle(task.resume)
            await self._wait_until_reachable()
        else:
            await self.check()
        if not handle.generation_id:
            yield Dispatched(handle=handle.serialize())
            accepted = await self._submit(task, handle)
            if handle.cancelled and accepted.state is client.State.CANCELLED:  # so it stays there
                handle = Handle(request_id=uuid.uuid4().hex)
                yield Dispatched(handle=handle.serialize())
                accepted = await self._submit(task, handle)
            handle = handle.model_copy(update={"generation_id": accepted.id})
        ended = False
        try:
            yield Dispatched(handle=handle.serialize())
            mapper = EventMapper(task, self._capabilities.versions)
            async with aclosing(self._follow(handle.generation_id)) as events:
                async for progress in events:
                    ended = progress.state.ended
                    for event in mapper.events(progress):
                        yield event
                    for output in await result_from_thread(partial(mapper.outputs, progress)):
                        yield output
        finally:
            if not keeps_job():
                await self._leave(handle, ended=ended)

    async def _follow(self, generation_id: str) -> AsyncGenerator[client.Progress]:
        """Every event of the generation, the last one with the outputs' bytes."""
        try:
            async with aclosing(self._connected.follow(generation_id, fetch=True)) as events:
                async for progress in events:
                    yield progress
        except AtelierError as error:
            raise errors.translate_after_acceptance(error) from error

    async def _submit(self, task: Task, handle: Handle) -> client.Generation:
        """Send the task under the request id of the handle, and return its generation."""
        request = await result_from_thread(partial(build_client_task, task, self._capabilities))
        options: Mapping[str, object] = task.options
        sending = asyncio.create_task(
            self._send(request, options, handle.request_id, _find_priority(task))
        )
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            if keeps_job():
                sending.cancel()  # sent again under the same request id, it is the same generation there
            else:
                await self._cancel_once_accepted(sending, handle)
            raise

    async def _send(
        self,
        request: client.ImageTask | client.AudioTask,
        options: Mapping[str, object],
        request_id: str,
        priority: client.Priority,
    ) -> client.Generation:
        """Send the task until it is known to be accepted or rejected; one request id is one generation."""
        retries = _Retries(self._config.retry_timeout_seconds)
        while True:
            try:
                accepted = await self._connected.submit(
                    request,
                    engine=self._config.engine,
                    options=options,
                    strict=True,
                    strict_except=_list_tolerated(self._capabilities),
                    request_id=request_id,
                    timeout_seconds=self._config.timeout_seconds,
                    priority=priority,
                )
            except ConflictError as error:
                return await self._find_by_request_id(request_id, error)
            except ServerUnreachableError as error:
                if retries.are_exhausted():
                    raise errors.translate_unanswered(error) from error
                await asyncio.sleep(_RETRY_DELAY_SECONDS)
            except AtelierError as error:
                raise errors.translate_rejection(error) from error
            else:
                return accepted

    async def _find_by_request_id(
        self, request_id: str, conflict: ConflictError
    ) -> client.Generation:
        """The generation that a previous process sent: uploaded images have new ids, so the request differs."""
        try:
            async with aclosing(self._connected.list()) as generations:
                async for generation in generations:
                    if generation.request_id == request_id:
                        return generation
        except AtelierError as error:
            raise errors.translate_after_acceptance(error) from error
        raise errors.translate_rejection(conflict) from conflict

    async def _cancel_once_accepted(
        self, sending: asyncio.Task[client.Generation], handle: Handle
    ) -> None:
        """Cancel the generation as soon as it is known to be accepted."""
        _report(Stop.MAY_GO_ON, handle)
        with suppress(Exception):
            async with asyncio.timeout(_GRACE_SECONDS):
                accepted = await sending
                await self._cancel(handle.model_copy(update={"generation_id": accepted.id}))

    async def _leave(self, handle: Handle, *, ended: bool) -> None:
        """Cancel the generation unless it has ended or cannot be cancelled, and report what can be resumed of it."""
        if ended or self._capabilities.cancel is CancelSupport.NONE:
            report_stop(Stop.ENDED if ended else Stop.MAY_GO_ON, handle.serialize())
        else:
            await self._cancel(handle)

    async def _cancel(self, handle: Handle) -> None:
        """Cancel the generation, wait until it has stopped, and report how; give up on an unreachable server."""
        stop = Stop.MAY_GO_ON
        with suppress(AtelierError, TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                cancel = self._connected.cancel(handle.generation_id, may_run_again=True)
                stop = _STOPS.get((await cancel).outcome, Stop.MAY_GO_ON)
        _report(stop, handle)

    async def _wait_until_reachable(self) -> None:
        """Wait until the other server answers: it may be restarting too."""
        retries = _Retries(self._config.retry_timeout_seconds)
        while True:
            try:
                await self._connected.health()
            except AtelierError as error:
                if retries.are_exhausted():
                    raise errors.translate_after_acceptance(error) from error
            else:
                return
            await asyncio.sleep(_RETRY_DELAY_SECONDS)

    async def _connect(self) -> client.AsyncClient:
        config = self._config
        tls = client.Tls(
            ca=config.ca_file,
            certificate=config.certificate_file,
            key=config.key_file,
            server_name=config.server_name,
        )
        try:
            credentials = await result_from_thread(tls.load) if config.tls else None
        except AtelierError as error:
            raise EngineUnavailableError(str(error)) from error
        return client.AsyncClient(
            self._address,
            credentials=credentials,
            tls=tls if config.tls else None,
            # Never that of the environment, which may be another server's.
            token=config.token.get_secret_value() if config.token else "",
            reconnect_timeout_seconds=config.retry_timeout_seconds,
            call_timeout_seconds=_CALL_TIMEOUT_SECONDS,
        )

    @property
    def _connected(self) -> client.AsyncClient:
        if self._client is None:
            raise EngineUnavailableError("the engine has not been started")
        return self._client


def _list_tolerated(capabilities: Capabilities) -> tuple[str, ...]:
    """What the engine there may change, since this server says so too: the size, and words unknown to its model.

    A workflow decides the size when it is done. Such words were noted here, and are sent all the same.
    """
    image = capabilities.image
    knows_words = image is not None and bool(image.vocabulary)
    return ("width", "height", "prompt") if knows_words else ("width", "height")


def _report(stop: Stop, handle: Handle) -> None:
    """Report what became of a generation that the other server was told to cancel: under its request id it goes on."""
    left = Handle(request_id=handle.request_id, cancelled=True)
    report_stop(stop, left.serialize())


def _find_priority(task: Task) -> client.Priority:
    return client.Priority.BATCH if task.batch else client.Priority.INTERACTIVE
