"""Watches one item of an InvokeAI server's queue until its image is generated."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from atelier_engines.errors import (
    EngineFailedError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.vendors.invokeai.api import InvokeAiClient
from atelier_engines.vendors.invokeai.graph import OUTPUT
from atelier_engines.vendors.invokeai.schemas import QueueItem, SocketEvent
from atelier_engines.vendors.invokeai.socket_events import BatchEvents, EventFeed
from atelier_engines.vendors.outages import MAX_INVALID_POLLS, OutageWaiter
from atelier_engines.vendors.server_paths import hide_paths

_CONNECTED_POLL_FACTOR = 5.0  # the poll interval is this much longer while the socket is connected
_MAX_MESSAGE_LENGTH = 200
_BROKEN_FILES = frozenset({"FileNotFoundError", "SafetensorError"})
"""Exceptions of nodes that load a model whose files are absent or broken.

Source: InvokeAI 6.14.2, backend/model_manager/load/load_default.py.
"""


async def watch_item(
    client: InvokeAiClient,
    feed: EventFeed,
    events: BatchEvents,
    item_id: int,
    *,
    poll_seconds: float,
    waiter: OutageWaiter,
) -> AsyncGenerator[QueueItem | SocketEvent | str]:
    """Yield states and events of the item as they arrive, and finally the name of its image.

    Events may arrive late, out of order or never, so only a poll of the item ends the iteration.
    A server that cannot be reached is polled again until the deadline.

    Raises:
        EngineFailedError: the item failed, was cancelled at the server, or is lost.
        ModelMissingError: the server no longer has a model.
        OutOfMemoryError: the server ran out of GPU memory.
        EngineTimeoutError: the deadline has passed.
    """
    while True:
        fetch = partial(client.fetch_item, item_id)
        item = await waiter.ask(fetch, max_invalid=MAX_INVALID_POLLS)
        yield item
        if item.status == "completed":
            for late in events.list_pending(item_id):
                yield late
            yield _require_image(item)
            return
        _require_not_failed(item)
        deadline = waiter.deadline
        deadline.require(client.name)
        interval = poll_seconds * (_CONNECTED_POLL_FACTOR if feed.connected else 1.0)
        while event := await events.receive(item_id, min(interval, deadline.remaining)):
            yield event
            deadline.require(client.name)


def _require_image(item: QueueItem) -> str:
    name = item.image_made_by(OUTPUT)
    if name is None:
        raise EngineFailedError("invokeai reported the item as completed, without an image")
    return name


def _require_not_failed(item: QueueItem) -> None:
    """Return unless the item has failed; an unknown status counts as running."""
    if item.status == "canceled":
        raise JobStoppedError(
            "the item was cancelled at invokeai, or invokeai was restarted; try again"
        )
    if item.status != "failed":
        return
    kind, text = item.error_type or "", hide_paths(" ".join((item.error_message or "").split()))
    message = f"invokeai failed: {kind or 'no reason given'}"
    if text:
        message += f" ({text[:_MAX_MESSAGE_LENGTH]})"
    if "OutOfMemory" in kind or "out of memory" in text.lower():
        raise OutOfMemoryError("invokeai ran out of GPU memory; request fewer pixels")
    if kind == "UnknownModelException" or text.startswith(("Unknown model", "Unknown lora")):
        raise ModelMissingError(f"{message}; the server no longer has a model of this task")
    if kind in _BROKEN_FILES or "no file named" in text.lower():
        raise ModelMissingError(
            f"{message}; files of a model of this task are missing or broken on the server: install it there again"
        )
    raise EngineFailedError(message)
