"""Several tasks in one call, and clients that were closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest

from atelier_client import AsyncClient, Client, Generation, ImageTask, State
from atelier_client.errors import (
    BatchError,
    ClientClosedError,
    GenerationFailedError,
)
from tests.client.conftest import MakeCaller
from tests.conftest import RunningServer, StartServer

TINY = {"width": 64, "height": 64, "steps": 1}


@asynccontextmanager
async def cancelling(server: RunningServer) -> AsyncGenerator[AsyncClient]:
    """Another client, to watch with; at the end it cancels what runs, which closed clients leave running."""
    async with AsyncClient(server.address) as client:
        yield client
        async for generation in client.list(states=(State.QUEUED, State.RUNNING)):
            await client.cancel(generation.id)


async def wait_for_running(client: AsyncClient) -> None:
    """Wait until a generation runs."""
    running: list[Generation] = []
    while not running:
        await asyncio.sleep(0.02)
        running = [one async for one in client.list(states=(State.RUNNING,))]


async def test_a_batch_gives_its_generations_in_order(
    calling: MakeCaller, server: RunningServer
) -> None:
    """More than run at the same time; prompts and tasks, with the same keywords, under numbered request ids."""
    prompts = [f"lamp {n}" for n in range(11)]
    async with calling(server.address) as caller:
        made = await caller.call("generate", prompts, request_id="batch", seed=7, **TINY)
        again = await caller.call("generate", prompts, request_id="batch", seed=7, **TINY)
        tasks = (ImageTask(prompt="a", width=64, height=64, steps=1), "b")
        mixed = await caller.call("generate", tasks, engine="sketch")
        assert await caller.call("generate", []) == ()
    assert [generation.prompt for generation in made] == prompts
    assert [generation.request_id for generation in made] == [f"batch-{n}" for n in range(11)]
    assert [generation.id for generation in again] == [generation.id for generation in made]
    assert {generation.images[0].seed for generation in made} == {7}
    assert [generation.prompt for generation in mixed] == ["a", "b"]


async def test_a_batch_runs_to_its_end_when_tasks_fail(
    calling: MakeCaller, server: RunningServer
) -> None:
    """The error has every outcome, in order: of one that failed, of one that was refused, and of the others."""
    fails = ImageTask(prompt="fails", width=64, height=64, scheduler="none such")
    async with calling(server.address) as caller:
        with pytest.raises(BatchError, match=r"1 of 3 tasks failed; task 1: .*scheduler") as raised:
            await caller.call("generate", ["a", fails, "b"], strict=True)
        with pytest.raises(BatchError, match="2 of 2 tasks failed") as both:
            await caller.call("generate", ["a", "b"], options={"fail": True})
    first, refused, last = raised.value.results
    assert isinstance(first, Generation)
    assert isinstance(last, Generation)
    assert (first.prompt, last.prompt) == ("a", "b")
    assert not isinstance(refused, Generation)
    assert {type(result) for result in both.value.results} == {GenerationFailedError}


async def test_a_batch_waits_for_a_full_queue(start_server: StartServer) -> None:
    """All of it is done by a server that takes two at a time."""
    small = start_server(engines={"sketch": {"type": "sketch", "concurrency": 1, "queue_limit": 1}})
    async with AsyncClient(small.address) as client:
        task = ImageTask(prompt="a", width=64, height=64, steps=1)
        made = await client.generate([task] * 4, options={"delay_seconds": 0.1})
    assert [generation.state for generation in made] == [State.SUCCEEDED] * 4


async def test_leaving_a_batch_cancels_it(server: RunningServer) -> None:
    """All that was started; what had ended stays."""
    async with AsyncClient(server.address) as client:
        batch = asyncio.create_task(
            client.generate(["left 1", "left 2"], options={"delay_seconds": 60.0})
        )
        started: list[Generation] = []
        while len(started) < 2:
            await asyncio.sleep(0.02)
            listed = client.list(states=(State.QUEUED, State.RUNNING))
            started = [one async for one in listed if one.prompt.startswith("left")]
        batch.cancel()
        with suppress(asyncio.CancelledError):
            await batch
        states = {(await client.get(generation.id)).state for generation in started}
    assert states == {State.CANCELLED}


async def test_a_batch_is_no_single_task(calling: MakeCaller, server: RunningServer) -> None:
    """Where one is wanted, and where it is none of anything."""
    async with calling(server.address) as caller:
        with pytest.raises(TypeError, match="an ImageTask or an AudioTask"):
            await caller.call("submit", ["a", "b"])
        with pytest.raises(TypeError, match="an ImageTask or an AudioTask"):
            await caller.call("generate", 5)


async def test_a_closed_client_says_so(calling: MakeCaller, server: RunningServer) -> None:
    """With an error of its own, in calls of every kind; closing twice is closing once."""
    async with calling(server.address) as caller:
        await caller.call("close")
        await caller.call("close")
        for method, *arguments in (
            ("health",),
            ("generate", "a"),
            ("generate", ["a"]),
            ("get", "x"),
        ):
            with pytest.raises(ClientClosedError, match="make a new one"):
                await caller.call(method, *arguments)
        with pytest.raises(ClientClosedError):
            _ = [event async for event in caller.events("stream", "a")]


async def test_closing_ends_the_calls_under_way(calling: MakeCaller, server: RunningServer) -> None:
    """With the same error: not as if the caller or the generation had been cancelled."""
    async with cancelling(server) as watcher, calling(server.address) as caller:
        options = {"delay_seconds": 60.0}
        running = asyncio.create_task(caller.call("generate", "closed", options=options))
        await wait_for_running(watcher)
        await caller.call("close")
        with pytest.raises(ClientClosedError):
            await running


async def test_a_caller_who_is_cancelled_stays_cancelled(server: RunningServer) -> None:
    """Also while the client is closed."""
    async with cancelling(server) as watcher:
        client = AsyncClient(server.address)
        running = asyncio.create_task(client.generate("a", options={"delay_seconds": 60.0}))
        await wait_for_running(watcher)
        running.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_a_closed_client_is_not_opened_again(server: RunningServer) -> None:
    """A second `with` is told at once."""
    client = Client(server.address)
    client.close()
    with pytest.raises(ClientClosedError), client:
        pass
