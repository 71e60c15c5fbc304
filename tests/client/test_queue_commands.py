"""`atelier pause`, `resume` and `clear`, and what a server that was killed meanwhile remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_client import AsyncClient, CancelCause, State
from atelier_client.errors import GenerationCancelledError, NotFoundError
from tests.client.atelier_command import Finished, atelier
from tests.conftest import RunningServer, launch

ENGINES = {"sketch": {"type": "sketch"}, "twin": {"type": "sketch"}}
SMALL = {"width": 16, "height": 16, "steps": 1}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose routing may choose either of two engines."""
    running = launch(tmp_path, engines=ENGINES, routing="fastest")
    yield running
    running.kill()


async def test_a_paused_engine_keeps_what_comes_over_a_kill(
    served: RunningServer, tmp_path: Path
) -> None:
    """Every view shows it; tasks without engine go elsewhere; resumed, it does what waited."""

    async def call(*arguments: str) -> Finished:
        return await atelier(*arguments, "--server", served.address)

    paused = await call("pause", "sketch", "--reason", "new fan")
    assert "atelier resume sketch" in paused.out
    async with AsyncClient(served.address) as client:
        waiting = await client.submit("a lighthouse", engine="sketch", width=16, height=16)
        assert (await client.generate("a lighthouse", width=16, height=16)).engine == "twin"
        plan = await client.plan("a lighthouse", engine="sketch")
        assert (plan.accepted, plan.estimated_wait_seconds) == (True, None)
    served.kill()
    served = launch(tmp_path, address=served.address, engines=ENGINES, routing="fastest")
    try:
        for command in (("engines",), ("engines", "sketch"), ("health",), ("top",)):
            shown = (await call(*command)).out
            assert "paused (new" in shown
            assert "fan)" in shown
        async with AsyncClient(served.address) as client:
            assert (await client.get(waiting.id)).state is State.QUEUED
            assert (await call("resume", "sketch")).out == "sketch: resumed\n"
            states = [event.state async for event in client.follow(waiting.id)]
            assert states[-1] is State.SUCCEEDED
            assert (await client.capabilities("sketch")).engines[0].pause is None
            assert not await client.resume("sketch")
    finally:
        served.kill()


async def test_a_cleared_queue_says_why(server: RunningServer) -> None:
    """To the caller who waits, and to whoever looks later; an unknown engine is an error."""

    async def call(*arguments: str) -> str:
        return (await atelier(*arguments, "--server", server.address)).out

    async with AsyncClient(server.address) as client:
        await client.pause("sketch")
        waiting = await client.submit("a lighthouse", engine="sketch")
        assert await call("clear", "sketch", "--reason", "rain") == "sketch: 1 cancelled\n"
        with pytest.raises(GenerationCancelledError, match="its queue was cleared \\(rain\\)"):
            async for _ in client.follow(waiting.id):
                pass
        assert await client.resume("sketch")
        found = await client.get(waiting.id)
        assert (found.cancel_cause, found.cancel_reason) == (CancelCause.QUEUE_CLEARED, "rain")
        assert "queue was cleared: rain" in await call("list")
        assert "with its queue: rain" in await call("show", waiting.id)
        with pytest.raises(NotFoundError):
            await client.clear_queue("sketh")
