"""An engine whose work is done by an engine of another Atelier server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from functools import partial

import grpc

import atelier_client as client
from atelier_client.errors import AtelierError, ConflictError, ServerUnreachableError
from atelier_engines.capabilities import (
    AudioFeature,
    CancelSupport,
    Capabilities,
    ImageFeature,
)
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.forwarding import errors
from atelier_engines.forwarding.capabilities import decode_capabilities
from atelier_engines.forwarding.config import ForwardingConfig
from atelier_engines.forwarding.events import EventMapper
from atelier_engines.forwarding.handle import Handle, handle_from_text
from atelier_engines.forwarding.requests import request_from_task
from atelier_engines.task import ImageTask, Task
from atelier_engines.threads import result_from_thread

_PAUSE_SECONDS = 0.25
_GOODBYE_SECONDS = 10.0  # for the other server to say that the work has stopped
_CALL_SECONDS = 10.0


class ForwardingEngine:
    """Forwards tasks to the server at `address`; what it can do is what the engine there can do."""

    def __init__(self, address: str, config: ForwardingConfig, *, concurrency: int) -> None:
        """Connect to nothing yet."""
        self._address = address
        self._config = config
        self._concurrency = concurrency
        self._capabilities = Capabilities(
            description=f"An engine of the Atelier server at {address}",
            concurrency=concurrency,
            cancel=CancelSupport.REMOTE,
        )
        self._client: client.AsyncClient | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Asks the other server what it can do."""
        await self.stop()
        connected = await self._connect()
        try:
            found = await connected.capabilities()
            self._capabilities = decode_capabilities(
                found, self._config.engine, concurrency=self._concurrency
            )
        except AtelierError as error:
            await connected.close()
            raise errors.refused(error) from error
        except BaseException:
            await connected.close()
            raise
        self._client = connected

    async def check(self) -> None:
        """See Engine.check. Asks the other server whether it, and the engine there, can work."""
        try:
            health = await self._connected.health()
        except AtelierError as error:
            raise errors.refused(error) from error
        if health.status != client.ServingStatus.SERVING:
            raise EngineUnavailableError("the other server is about to stop")
        wanted = [engine for engine in health.engines if self._config.engine in {"", engine.engine}]
        if not any(engine.state == client.EngineState.READY for engine in wanted):
            why = "; ".join(engine.message for engine in wanted) or "it is not there"
            raise EngineUnavailableError(f"the engine of the other server cannot work now: {why}")

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it cancels the generation there, and waits until that has stopped.

        Where the engine there cannot be cancelled, the generation goes on.

        Raises:
            EngineUnavailableError: the other server could not be reached, and nothing was begun.
            EngineUncertainError: it fell silent while the task was sent.
            EngineTimeoutError: it fell silent afterwards, or the deadline came.
            EngineError: as the engine there, see `faults`.
        """
        yield Stage(name="submit")
        handle = Handle(request_id=uuid.uuid4().hex)
        if task.resume:
            handle = handle_from_text(task.resume)
            await self._reachable()
        else:
            await self.check()
        if not handle.generation_id:
            yield Dispatched(handle=handle.text())
            generation_id = await self._submitted(task, handle.request_id)
            handle = handle.model_copy(update={"generation_id": generation_id})
        ended = False
        try:
            yield Dispatched(handle=handle.text())
            mapper = EventMapper(task, self._capabilities.versions)
            async with aclosing(self._follow(handle.generation_id)) as events:
                async for progress in events:
                    ended = progress.state.ended
                    for event in mapper.events(progress):
                        yield event
                    for output in await result_from_thread(partial(mapper.outputs, progress)):
                        yield output
        finally:
            if not ended and self._capabilities.cancel is not CancelSupport.NONE:
                await self._cancel(handle.generation_id)

    async def _follow(self, generation_id: str) -> AsyncGenerator[client.Progress]:
        """Every event of the generation, the last one with the outputs' bytes."""
        try:
            async with aclosing(self._connected.follow(generation_id, fetch=True)) as events:
                async for progress in events:
                    yield progress
        except AtelierError as error:
            raise errors.under_way(error) from error

    async def _submitted(self, task: Task, request_id: str) -> str:
        """The id of the generation that the other server has accepted under that request id."""
        asked = await result_from_thread(
            partial(request_from_task, task, seeded=self._seeded(task))
        )
        options: Mapping[str, object] = task.options
        sending = asyncio.create_task(self._send(asked, options, request_id))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await self._withdraw(sending)
            raise

    async def _send(
        self,
        asked: client.ImageTask | client.AudioTask,
        options: Mapping[str, object],
        request_id: str,
    ) -> str:
        """Send the task until it is known to be accepted or refused; the same id is one generation."""
        end = asyncio.get_running_loop().time() + self._config.patience_seconds
        while True:
            try:
                accepted = await self._connected.submit(
                    asked,
                    engine=self._config.engine,
                    options=options,
                    strict=True,
                    request_id=request_id,
                    timeout_seconds=self._config.deadline_seconds,
                )
            except ConflictError as error:
                return await self._found(request_id, error)
            except ServerUnreachableError as error:
                if asyncio.get_running_loop().time() > end:
                    raise errors.uncertain(error) from error
                await asyncio.sleep(_PAUSE_SECONDS)
            except AtelierError as error:
                raise errors.refused(error) from error
            else:
                return accepted.id

    async def _found(self, request_id: str, conflict: ConflictError) -> str:
        """The generation that an earlier life has sent: large pictures have other names when sent again."""
        try:
            async with aclosing(self._connected.list()) as generations:
                async for generation in generations:
                    if generation.request_id == request_id:
                        return generation.id
        except AtelierError as error:
            raise errors.under_way(error) from error
        raise errors.refused(conflict) from conflict

    async def _withdraw(self, sending: asyncio.Task[str]) -> None:
        """Cancel what was sent, as soon as it is known to be accepted."""
        with suppress(Exception):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._cancel(await sending)

    async def _cancel(self, generation_id: str) -> None:
        """Stop the generation, and wait until it has stopped; a silent server is left alone."""
        with suppress(AtelierError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._connected.cancel(generation_id)

    async def _reachable(self) -> None:
        """Wait until the other server answers: it may have died together with this one."""
        end = asyncio.get_running_loop().time() + self._config.patience_seconds
        while True:
            try:
                await self._connected.health()
            except AtelierError as error:
                if asyncio.get_running_loop().time() > end:
                    raise errors.under_way(error) from error
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _seeded(self, task: Task) -> bool:
        can = self._capabilities
        if isinstance(task, ImageTask):
            return can.image is not None and ImageFeature.SEED in can.image.features
        return can.audio is not None and AudioFeature.SEED in can.audio.features

    async def _connect(self) -> client.AsyncClient:
        config = self._config
        credentials = None
        if config.tls:
            trusted = None
            if config.ca_file is not None:
                trusted = await result_from_thread(config.ca_file.read_bytes)
            credentials = grpc.ssl_channel_credentials(trusted)
        return client.AsyncClient(
            self._address,
            credentials=credentials,
            token=config.token.get_secret_value() if config.token else "",
            reconnect_timeout_seconds=config.patience_seconds,
            call_timeout_seconds=_CALL_SECONDS,
        )

    @property
    def _connected(self) -> client.AsyncClient:
        if self._client is None:
            raise EngineUnavailableError("the engine has not been started")
        return self._client
