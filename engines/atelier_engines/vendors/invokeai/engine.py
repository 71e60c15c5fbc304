"""The invokeai engine: one batch per task on an InvokeAI server, one queue item per image."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import ClassVar

from atelier_engines.closing import Stop, keeps_job, ordering, report_stop
from atelier_engines.errors import EngineError
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.images import load_result
from atelier_engines.vendors.invokeai.api import InvokeAiClient, translate_rejection
from atelier_engines.vendors.invokeai.cancelling import stop_batch
from atelier_engines.vendors.invokeai.capabilities import build_capabilities
from atelier_engines.vendors.invokeai.catalog import ModelCatalog, build_catalog
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.graph import SEED, UploadedImages, build_graph
from atelier_engines.vendors.invokeai.item_watcher import watch_item
from atelier_engines.vendors.invokeai.progress_tracker import ProgressTracker
from atelier_engines.vendors.invokeai.schemas import BatchHandle
from atelier_engines.vendors.invokeai.sizes import choose_size
from atelier_engines.vendors.invokeai.socket_events import BatchEvents, EventFeed
from atelier_engines.vendors.invokeai.style_presets import apply_style_preset
from atelier_engines.vendors.invokeai.uploads import upload_images
from atelier_engines.vendors.late_cancels import LateCancels
from atelier_engines.vendors.outages import OutageWaiter

_NAME = "invokeai"
_RESPONSE_TIMEOUT_SECONDS = 60.0
_CLEANUP_TIMEOUT_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class _Run:
    """One task on the server."""

    task: ImageTask
    waiter: OutageWaiter
    batch: BatchHandle
    events: BatchEvents
    uploaded: UploadedImages = field(default_factory=UploadedImages)
    size_reason: str = ""
    """Why it is made in another size than that of the request; empty if it is not."""
    sent: bool = False
    """Whether the server may know the batch."""
    generated: list[str] = field(default_factory=list)
    """Names of the generated images on the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """The server, as it was at the start."""

    client: InvokeAiClient
    feed: EventFeed
    catalog: ModelCatalog
    board_id: str
    """Board that keeps the images; empty for none."""
    late_cancels: LateCancels
    """Cancellations that did not reach the server."""

    async def stop_batch(self, batch_id: str) -> Stop:
        """Stop a batch, now or later, and say what has become of it now."""
        stop = await stop_batch(self.client, batch_id)
        if stop is Stop.MAY_GO_ON:
            self.late_cancels.add(batch_id, partial(stop_batch, self.client, batch_id))
        return stop

    async def close(self) -> None:
        """Close all connections."""
        await self.late_cancels.close()
        await self.client.vendor.close()


class InvokeAiEngine(RemoteEngine[_Connection]):
    """SDXL models on one InvokeAI server. Models, LoRAs and ControlNets are those that it had at the start."""

    name: ClassVar[str] = _NAME

    def __init__(self, config: InvokeAiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet; `delay_scale` multiplies every pause."""
        super().__init__(build_capabilities(config, ModelCatalog()))
        self._config = config
        self._delay_scale = delay_scale

    async def check(self) -> None:
        """See Engine.check. Asks whether the queue's processor is running."""
        await self._connection.client.require_running()

    async def _connect(self) -> _Connection:
        """Sign in, list the models, and find or create the board.

        Raises:
            ModelMissingError: the server lacks a model that the configuration names, or any SDXL model.
            EngineUnavailableError: the server cannot be reached, or rejects the sign-in.
        """
        config = self._config
        vendor = VendorClient(
            name=_NAME,
            client=connect(config.base_url),
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS,
            translate_error=translate_rejection,
        )
        client = InvokeAiClient(vendor=vendor, email=config.email, password=config.password)
        try:
            await client.sign_in()
            presets = await client.list_style_presets()
            catalog = build_catalog(await client.list_models(), config, presets)
            named = None if config.board is None else await client.find_board(config.board)
        except BaseException:
            await vendor.close()
            raise
        self._capabilities = build_capabilities(config, catalog)
        url, scale = vendor.client.base_url, self._delay_scale
        feed = EventFeed(url, lambda: client.token, delay_scale=scale)
        board_id = "" if named is None else named.board_id
        return _Connection(
            client=client,
            feed=feed,
            catalog=catalog,
            board_id=board_id,
            late_cancels=LateCancels(delay_scale=scale),
        )

    async def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        """Run the task as one batch; closing it cancels this task's queue items, and no others, unless it keeps them.

        Raises:
            EngineFailedError: an item failed, was cancelled at the server, or is lost.
            ModelMissingError: the server no longer has a model.
            OutOfMemoryError: the server ran out of GPU memory.
            EngineTimeoutError: the deadline has passed.
            EngineError: see `vendors.errors`.
        """
        deadline = Deadline(self._config.timeout_seconds)
        task, size_reason = choose_size(task, self._config)
        waiter = OutageWaiter(client=self._connection.client.vendor, deadline=deadline)
        yield Stage(name="submit")
        known = await self._find_batch(task, waiter)
        batch = known or BatchHandle(batch_id=f"atelier-{uuid.uuid4()}")
        async with self._connection.feed.subscribe(batch.batch_id) as events:
            run = _Run(
                task=task, waiter=waiter, batch=batch, events=events, size_reason=size_reason
            )
            over = False
            try:
                if known is None:
                    await self._upload(run)
                    async with ordering():
                        yield Dispatched(handle=run.batch.text)
                        await self._submit(run)
                        yield Dispatched(handle=run.batch.text)
                else:
                    run.sent = True
                    yield Dispatched(handle=run.batch.text)
                async with aclosing(self._watch(run)) as watched:
                    async for event in watched:
                        yield event
                over = True
            finally:
                if over or not keeps_job():
                    await self._cleanup(run, over=over)

    async def _find_batch(self, task: ImageTask, waiter: OutageWaiter) -> BatchHandle | None:
        """Return the batch of an earlier attempt; None if there is none, it never arrived, or the server cancelled it.

        A cancelled batch has certainly ended, and submitting it again is free.
        """
        if not task.resume:
            return None
        batch, client = BatchHandle.parse(task.resume), self._connection.client
        if batch.item_ids:
            found = [
                await waiter.ask(partial(client.fetch_item, item_id)) for item_id in batch.item_ids
            ]
        else:
            found = [*await waiter.ask(partial(client.list_items, batch.batch_id))]
        found.sort(key=attrgetter("item_id"))
        whole = len(found) == len(task.seeds)
        if not whole or any(item.status == "canceled" for item in found):
            await self._delete(batch.uploads, cancelled=batch.batch_id)
            return None
        ids = batch.item_ids or tuple(item.item_id for item in found)
        return batch.model_copy(update={"item_ids": ids})

    async def _upload(self, run: _Run) -> None:
        async with aclosing(upload_images(run.task, self._connection.client)) as uploads:
            async for run.uploaded in uploads:
                run.batch = run.batch.model_copy(update={"uploads": run.uploaded.names})

    async def _submit(self, run: _Run) -> None:
        body = self._build_batch(run.task, run.batch.batch_id, run.uploaded)
        run.sent = True  # whether or not the batch arrives, none of it may run if this fails
        item_ids = await self._connection.client.enqueue(body, len(run.task.seeds))
        run.batch = run.batch.model_copy(update={"item_ids": item_ids})

    def _build_batch(
        self, task: ImageTask, batch_id: str, uploaded: UploadedImages
    ) -> dict[str, JSON]:
        graph = build_graph(
            apply_style_preset(task, self._connection.catalog.style_presets),
            self._connection.catalog,
            uploaded,
            self._config,
            board_id=self._connection.board_id,
        )
        node, name = SEED
        seeds: list[JSON] = list(task.seeds)
        return {
            "batch_id": batch_id,
            "origin": "atelier",
            "destination": batch_id,
            "runs": 1,
            "graph": graph,
            "data": [[{"node_path": node, "field_name": name, "items": seeds}]],
        }

    async def _watch(self, run: _Run) -> AsyncGenerator[Event]:
        """Yield progress and images, in the order of the seeds."""
        progress = ProgressTracker(run.task)
        connection = self._connection
        for item_id, seed in zip(run.batch.item_ids, run.task.seeds, strict=True):
            updates = watch_item(
                connection.client,
                connection.feed,
                run.events,
                item_id,
                poll_seconds=self._config.poll_seconds,
                waiter=run.waiter,
            )
            async with aclosing(updates):
                async for update in updates:
                    if isinstance(update, str):
                        run.generated.append(update)
                    else:
                        for event in await progress.events(update):
                            yield event
            for event in progress.finish_image():
                yield event
            media = await self._fetch_image(run)
            yield Output(media=media, seed=seed, size_reason=run.size_reason)

    async def _fetch_image(self, run: _Run) -> Encoded | Pixels:
        """Download the latest generated image."""
        fetch = partial(self._connection.client.fetch_image, run.generated[-1])
        file = await run.waiter.ask(fetch)
        return await load_result(_NAME, file.data, run.task)

    async def _cleanup(self, run: _Run, *, over: bool) -> None:
        """Cancel this task's items unless it is over, and delete its images on the server; best effort."""
        if not over:
            stop = Stop.NEVER_STARTED
            if run.sent:
                stop = await self._connection.stop_batch(run.batch.batch_id)
            report_stop(stop)
        kept = bool(self._connection.board_id)
        await self._delete((*run.batch.uploads, *(() if kept else run.generated)))

    async def _delete(self, names: Sequence[str], *, cancelled: str = "") -> None:
        """Delete these images, after cancelling a batch if there is one, within a few seconds; best effort."""
        client = self._connection.client
        calls = [partial(client.delete_image, name) for name in names]
        if cancelled:
            calls.insert(0, partial(client.cancel, cancelled))
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEANUP_TIMEOUT_SECONDS):
                for call in calls:
                    with suppress(EngineError):
                        await call()
