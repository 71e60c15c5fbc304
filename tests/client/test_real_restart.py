"""A client that is following when the real server is killed, and started again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing

from atelier_client import Progress, State
from tests.client.conftest import MakeCaller
from tests.conftest import StartServer


async def test_a_stream_survives_kill_9(calling: MakeCaller, start_server: StartServer) -> None:
    """The generation is run again, and every event of its log comes once."""
    first = await asyncio.to_thread(start_server)
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(calling(first.address))
        stream = caller.events("stream", "a lamp", steps=4, options={"delay_seconds": 2.0})
        await stack.enter_async_context(aclosing(stream))
        events: list[Progress] = [await anext(stream) for _ in range(4)]
        await asyncio.to_thread(first.kill)
        await asyncio.to_thread(start_server, address=first.address)
        events += [event async for event in stream]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert (events[-1].state, events[-1].attempt) == (State.SUCCEEDED, 2)
    assert events[-1].generation is not None
    assert events[-1].generation.images[0].data.startswith(b"\x89PNG")
