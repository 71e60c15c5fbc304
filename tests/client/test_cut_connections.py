"""Connections that a proxy cuts while a stream is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from atelier_client import AsyncClient, Progress, errors
from tests.client.conftest import MakeCaller
from tests.conftest import RunningServer
from tests.cutting_proxy import run_proxy

RECONNECT_SECONDS = 1.5
SILENCE_SECONDS = 2.0  # longer than the time to reconnect
SILENT = {"delay_seconds": 100}


async def collect(stream: AsyncGenerator[Progress], seen: list[int]) -> None:
    """Append the numbers of the events to `seen`, as they arrive."""
    async with aclosing(stream):
        async for event in stream:
            seen.append(event.sequence)  # noqa: PERF401 - the caller reads them when the stream fails


async def test_a_stream_survives_cuts_after_long_silences(
    calling: MakeCaller, server: RunningServer
) -> None:
    """Each silence is longer than the time to reconnect, and no message comes between the cuts."""
    async with (
        run_proxy(server.address) as proxy,
        AsyncClient(server.address) as direct,
        calling(proxy.address, reconnect_timeout_seconds=RECONNECT_SECONDS) as caller,
    ):
        accepted = await direct.submit("a lamp", width=64, height=64, steps=1, options=SILENT)
        seen: list[int] = []
        following = asyncio.create_task(collect(caller.events("follow", accepted.id), seen))
        for _ in range(2):
            await asyncio.sleep(SILENCE_SECONDS)
            proxy.cut()
        await asyncio.sleep(SILENCE_SECONDS)
        await direct.cancel(accepted.id)
        with pytest.raises(errors.GenerationCancelledError):
            await following
    assert seen == list(range(1, len(seen) + 1))
    assert proxy.connections >= 3
