"""Follows one picture in an InvokeAI server's queue until it is drawn."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.invokeai.feed import Feed, Listener
from atelier_engines.vendors.invokeai.graph import PICTURE
from atelier_engines.vendors.invokeai.server import Server
from atelier_engines.vendors.invokeai.wire import Heard, Item

_SILENCE = 5.0  # polls are so much rarer while events come
_LONGEST_REASON = 200


async def follow(
    server: Server,
    feed: Feed,
    listener: Listener,
    item_id: int,
    *,
    poll_seconds: float,
    deadline: Deadline,
) -> AsyncGenerator[Item | Heard | str]:
    """States and events of the picture as they come; at last the name of its file.

    Events come late, out of order or never, so only what the server answers about the item ends it.
    A server that can't be reached for a while is waited for until the deadline.

    Raises:
        EngineFailedError: the work failed, was cancelled at the server, or is lost.
        ModelMissingError: the server lacks a model by now.
        OutOfMemoryError: the picture is too large for its GPU.
        EngineTimeoutError: the deadline came first.
    """
    while True:
        trouble: EngineError | None = None
        try:
            async with deadline.timeout(server.vendor.name):
                item = await server.item(item_id)
        except EngineUnavailableError as error:
            trouble = error
        else:
            yield item
            if item.status == "completed":
                for late in listener.rest(item_id):
                    yield late
                yield _image_of(item)
                return
            _require_alive(item)
        deadline.require(server.vendor.name, because=trouble)
        silence = poll_seconds * (_SILENCE if feed.connected and not trouble else 1.0)
        while heard := await listener.next(item_id, min(silence, deadline.remaining)):
            yield heard
            deadline.require(server.vendor.name)


def _image_of(item: Item) -> str:
    name = item.image_made_by(PICTURE)
    if name is None:
        raise EngineFailedError("invokeai says that the picture is done, but not where it is")
    return name


def _require_alive(item: Item) -> None:
    """Return if the work goes on; an unknown status means that it does."""
    if item.status == "canceled":
        raise EngineFailedError(
            "the work was cancelled at invokeai, or invokeai was restarted; try again"
        )
    if item.status != "failed":
        return
    kind, text = item.error_type or "", " ".join((item.error_message or "").split())
    says = f"invokeai failed at the work: {kind or 'no reason given'}"
    if text:
        says += f" ({text[:_LONGEST_REASON]})"
    if "OutOfMemory" in kind or "out of memory" in text.lower():
        raise OutOfMemoryError(
            "invokeai's GPU has too little memory for this; ask for fewer pixels"
        )
    if kind == "UnknownModelException" or text.startswith(("Unknown model", "Unknown lora")):
        raise ModelMissingError(f"{says}; it lacks a model that it had when Atelier was started")
    raise EngineFailedError(says)
