"""Stops the batch of a task on an InvokeAI server, and says what became of it.

Source: InvokeAI 6.14.2, app/api/routers/session_queue.py (`cancel_by_batch_ids`, `list_all`).
"""

from __future__ import annotations

import asyncio

from atelier_engines.closing import Stop, combine
from atelier_engines.errors import EngineError
from atelier_engines.vendors.invokeai.api import InvokeAiClient
from atelier_engines.vendors.invokeai.schemas import QueueItem

_TIMEOUT_SECONDS = 5.0
_ENDED = frozenset({"canceled", "completed", "failed"})


async def stop_batch(client: InvokeAiClient, batch_id: str) -> Stop:
    """Cancel all items of the batch that have not ended, within a few seconds; raises nothing.

    MAY_GO_ON if the server did not answer.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await client.cancel(batch_id)
            return combine(map(_what_became_of, await client.list_items(batch_id)))
    except (EngineError, TimeoutError):
        return Stop.MAY_GO_ON


def _what_became_of(item: QueueItem) -> Stop:
    if item.status not in _ENDED:
        return Stop.MAY_GO_ON
    began = item.started_at is not None or item.status != "canceled"
    return Stop.STOPPED if began else Stop.NEVER_STARTED
