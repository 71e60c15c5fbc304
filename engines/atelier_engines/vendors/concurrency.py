"""Concurrent requests of one task, for services that answer a request when its image is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

ResultT = TypeVar("ResultT")


@asynccontextmanager
async def run_concurrently(
    requests: Iterable[Coroutine[None, None, ResultT]],
) -> AsyncIterator[list[asyncio.Task[ResultT]]]:
    """Run all requests as asyncio tasks, in their order; at the end of the context none is left running."""
    running = [asyncio.create_task(request) for request in requests]
    try:
        yield running
    finally:
        for request in running:
            request.cancel()
        await asyncio.gather(*running, return_exceptions=True)
