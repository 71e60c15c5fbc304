"""Runs tasks on an InvokeAI server: one batch a task, one item of its queue a picture."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineError, EngineUnavailableError, UnsupportedError
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import JSON, AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.images import load_result_image
from atelier_engines.vendors.invokeai.capabilities import abilities
from atelier_engines.vendors.invokeai.catalogue import Catalogue, catalogue_of
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.feed import Feed
from atelier_engines.vendors.invokeai.following import follow
from atelier_engines.vendors.invokeai.graph import SEED, Sent, graph_of
from atelier_engines.vendors.invokeai.progress import Progress
from atelier_engines.vendors.invokeai.sending import pictures_of
from atelier_engines.vendors.invokeai.server import Server, refusal
from atelier_engines.vendors.invokeai.wire import Heard, Item, Job, job_from_handle

_NAME = "invokeai"
_PATIENCE_SECONDS = 60.0
_GOODBYE_SECONDS = 5.0
_SEEDS = 2**32
Watch = Callable[[int], AsyncGenerator[Item | Heard | str]]
"""Follows one item of the queue by its number."""


class InvokeAiEngine:
    """SDXL models on one InvokeAI server."""

    def __init__(self, config: InvokeAiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` multiplies every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._catalogue = Catalogue()
        self._capabilities = abilities(config, self._catalogue)
        self._board_id = ""
        self._connection: tuple[Server, Feed] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities. Models, LoRAs and controls are those that the server had at the start."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Asks for the models, and finds or makes the board.

        Raises:
            ModelMissingError: the server lacks a model that the configuration names, or any for SDXL.
            EngineUnavailableError: it can't be reached, or nobody can sign in.
        """
        config = self._config
        client = connect(config.base_url)
        vendor = VendorClient(
            name=_NAME,
            client=client,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_PATIENCE_SECONDS,
            translate_error=refusal,
        )
        server = Server(vendor=vendor, email=config.email, password=config.password)
        try:
            await server.sign_in()
            self._catalogue = catalogue_of(await server.models(), config)
            if config.board is not None:
                self._board_id = (await server.board_named(config.board)).board_id
        except BaseException:
            await client.aclose()
            raise
        self._capabilities = abilities(config, self._catalogue)
        feed = Feed(client.base_url, lambda: server.token, delay_scale=self._delay_scale)
        self._connection = server, feed

    async def check(self) -> None:
        """See Engine.check. Asks whether the queue is being worked through."""
        server, _ = self._connected
        await server.require_working()

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._connection is not None:
            server, _ = self._connection
            self._connection = None
            await server.vendor.client.aclose()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it cancels this task's own items of the queue, and no others.

        Raises:
            EngineFailedError: the work failed, was cancelled at the server, or is lost.
            ModelMissingError: the server lacks a model by now.
            OutOfMemoryError: the picture is too large for the server's GPU.
            EngineTimeoutError: the deadline came first.
            EngineError: see `vendors.errors`.
        """
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", "this engine makes no sound")
        deadline = Deadline(self._config.deadline_seconds)
        yield Stage(name="submit")
        known = await self._found(task.resume, deadline)
        batch_id = f"atelier-{uuid.uuid4()}" if known is None else known.batch_id
        _, feed = self._connected
        async with feed.listening(batch_id) as listener:
            job = known or await self._submitted(task, batch_id)
            made: list[str] = []
            over = False
            try:
                yield Dispatched(handle=job.handle())
                watch = partial(
                    follow,
                    *self._connected,
                    listener,
                    poll_seconds=self._config.poll_seconds,
                    deadline=deadline,
                )
                async with aclosing(self._drawn(task, job, made, watch, deadline)) as events:
                    async for event in events:
                        yield event
                over = True
            finally:
                await self._tidied(job, made, cancel=not over)

    async def _found(self, handle: str, deadline: Deadline) -> Job | None:
        """The job of an earlier attempt; None when there is none, or its process or server died under it.

        What was cancelled with them has surely ended, and costs nothing to ask for again.
        """
        if not handle:
            return None
        job = job_from_handle(handle)
        server, _ = self._connected
        with errors.after_acceptance(_NAME):
            async with deadline.timeout(_NAME):
                items = [await server.item(item_id) for item_id in job.item_ids]
        if any(item.status == "canceled" for item in items):
            await self._tidied(job, [], cancel=True)
            return None
        return job

    async def _submitted(self, task: ImageTask, batch_id: str) -> Job:
        server, _ = self._connected
        job = Job(batch_id=batch_id)
        sent = Sent()
        try:
            async with aclosing(pictures_of(task, server)) as grown:
                async for sent in grown:
                    job = job.model_copy(update={"uploads": sent.names})
            batch = self._batch(task, batch_id, sent)
            item_ids = await server.enqueue(batch, len(task.seeds))
        except BaseException:  # whether it arrived or not: nothing of it is to go on
            await self._tidied(job, [], cancel=True)
            raise
        return job.model_copy(update={"item_ids": item_ids})

    def _batch(self, task: ImageTask, batch_id: str, sent: Sent) -> dict[str, JSON]:
        graph = graph_of(task, self._catalogue, sent, self._config, board_id=self._board_id)
        node, name = SEED
        seeds = [seed % _SEEDS for seed in task.seeds]
        return {
            "batch_id": batch_id,
            "origin": "atelier",
            "destination": batch_id,
            "runs": 1,
            "graph": graph,
            "data": [[{"node_path": node, "field_name": name, "items": seeds}]],
        }

    async def _drawn(
        self, task: ImageTask, job: Job, made: list[str], watch: Watch, deadline: Deadline
    ) -> AsyncGenerator[Event]:
        """Progress and pictures, in the order of the seeds; names of the server's files go into `made`."""
        progress = Progress(task)
        for item_id, seed in zip(job.item_ids, task.seeds, strict=True):
            async with aclosing(watch(item_id)) as states:
                async for state in states:
                    if isinstance(state, str):
                        made.append(state)
                    else:
                        for event in await progress.events(state):
                            yield event
            for event in progress.finish_picture():
                yield event
            yield Output(media=await self._picture(made[-1], task, deadline), seed=seed)

    async def _picture(self, name: str, task: ImageTask, deadline: Deadline) -> Encoded | Pixels:
        server, _ = self._connected
        with errors.after_acceptance(_NAME):
            async with deadline.timeout(_NAME):
                file = await server.image(name)
        picture = partial(load_result_image, _NAME, file.data, width=task.width, height=task.height)
        return await result_from_thread(picture)

    async def _tidied(self, job: Job, made: list[str], *, cancel: bool) -> None:
        """Leave nothing behind at the server, as far as it can be told so in a few seconds."""
        server, _ = self._connected
        names = (*job.uploads, *(() if self._board_id else made))
        calls = [partial(server.delete_image, name) for name in names]
        if cancel:
            calls.insert(0, partial(server.cancel, job.batch_id))
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                for call in calls:
                    with suppress(EngineError):
                        await call()

    @property
    def _connected(self) -> tuple[Server, Feed]:
        if self._connection is None:
            raise EngineUnavailableError("the invokeai engine has not been started")
        return self._connection
