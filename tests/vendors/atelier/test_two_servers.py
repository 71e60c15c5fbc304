"""Two real servers: progress, cancellation and crashes of either."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from grpc import aio
from PIL import Image

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_client import AsyncClient, CancelOutcome, Generation, State
from atelier_client.errors import GenerationFailedError
from tests.conftest import RunningServer, free_port
from tests.cutting_proxy import run_proxy
from tests.server.calls import slow_request
from tests.server.conftest import install_odd
from tests.server.test_request_ids import hang_up
from tests.vendors.atelier.conftest import Launch

SLOW = {"delay_seconds": 60}
BRISK = {"delay_seconds": 2}


def forwarding_engines(address: str, **settings: object) -> dict[str, object]:
    """Engines of a server that forwards to the one at the address."""
    far = {"type": "atelier", "address": address, "engine": "sketch", **settings}
    return {"far": far, "near": {"type": "sketch"}}


async def wait_for_step(client: AsyncClient, generation_id: str, step: int = 1) -> None:
    """Wait until the generation has done so many steps."""
    async with aclosing(client.follow(generation_id)) as story:
        async for progress in story:
            if progress.step >= step:
                return


async def list_generations(server: RunningServer) -> list[Generation]:
    """Every generation of the server."""
    async with AsyncClient(server.address) as client, aclosing(client.list()) as found:
        return [generation async for generation in found]


async def wait_until_finished(server: RunningServer, generation_id: str) -> Generation:
    """The generation at its end, with the bytes of its outputs."""
    async with AsyncClient(server.address, reconnect_timeout_seconds=60) as client:
        async with aclosing(client.follow(generation_id)) as story:
            async for _ in story:
                pass
        return await client.get(generation_id)


async def test_progress_and_previews_come_through(launching: Launch, other: RunningServer) -> None:
    """Every step, preview and file of the second server is passed on; the file names its engine."""
    front = launching("front", engines=forwarding_engines(other.address))
    async with AsyncClient(front.address) as client:
        task = {"width": 64, "height": 64, "steps": 6, "preview_interval": 2, "seed": 5}
        story = client.stream("a lamp", engine="far", **task)  # type: ignore[arg-type]  # fields by name
        async with aclosing(story):
            events = [event async for event in story]
        story = client.stream("a lamp", engine="near", **task)  # type: ignore[arg-type]  # fields by name
        async with aclosing(story):
            near = [event async for event in story]
    shown = [event.preview for event in events if event.preview is not None]
    assert shown == [event.preview for event in near if event.preview is not None]
    assert len(shown) == 3
    assert sorted({event.step for event in events}) == list(range(7))
    assert {"submit", "draw"} <= {event.stage for event in events}
    made = [event.generation for event in (events[-1], near[-1])]
    pixels, makers = set(), []
    for one in made:
        assert one is not None
        with Image.open(io.BytesIO(one.images[0].data)) as image:
            pixels.add(image.tobytes())
            makers.append(json.loads(image.info["atelier"])["engine"])
    assert len(pixels) == 1
    assert makers == ["sketch", "near"]


async def test_a_cancellation_is_forwarded(launching: Launch, other: RunningServer) -> None:
    """When the first server reports it as stopped, the second has stopped it."""
    front = launching("front", engines=forwarding_engines(other.address))
    async with AsyncClient(front.address) as client:
        accepted = await client.submit("a lamp", engine="far", steps=200, options=SLOW)
        await wait_for_step(client, accepted.id)
        answer = await client.cancel(accepted.id)
    assert answer.outcome is CancelOutcome.STOPPED
    there = (await list_generations(other))[0]
    assert (there.state, there.cancel_outcome) == (State.CANCELLED, CancelOutcome.STOPPED)


async def test_a_cancelled_call_is_forwarded(launching: Launch, other: RunningServer) -> None:
    """Cancelling the stream at the first server stops the second one."""
    front = launching("front", engines=forwarding_engines(other.address))
    async with AsyncClient(front.address) as client:
        story = client.stream("a lamp", engine="far", steps=200, options=SLOW)
        async with aclosing(story):
            async for progress in story:
                if progress.step:
                    break
    assert (await list_generations(other))[0].state is State.CANCELLED


async def until_cancelled(*servers: RunningServer) -> None:
    """Return once the newest generation of each server is cancelled."""
    for server in servers:
        while (await list_generations(server))[0].state is not State.CANCELLED:  # noqa: ASYNC110 (in another process)
            await asyncio.sleep(0.02)


async def test_a_caller_who_comes_back_is_one_generation_on_each(
    launching: Launch, other: RunningServer
) -> None:
    """Hung up on the first server, it is cancelled on both, and runs again on both."""
    front = launching("front", engines=forwarding_engines(other.address))
    before = len(await list_generations(other))
    request = slow_request(5, engine="far", request_id="back")
    async with aio.insecure_channel(front.address) as channel:
        stub = GenerationServiceStub(channel)
        await hang_up(stub, request)
        await until_cancelled(front, other)
        made = (await stub.Generate(request)).generation
    assert [attempt.number for attempt in made.receipt.attempts] == [1, 2]
    there, *others = await list_generations(other)
    assert len(others) == before
    assert there.receipt is not None
    assert len(there.receipt.attempts) == 2


async def test_a_cancellation_that_a_killed_server_has_noted_is_forwarded_by_the_next(
    launching: Launch, other: RunningServer
) -> None:
    """By the handle of the generation there; here it has ended at once."""
    address = f"127.0.0.1:{free_port()}"
    front = launching("front", address=address, engines=forwarding_engines(other.address))
    async with AsyncClient(address) as client:
        accepted = await client.submit("a lamp", engine="far", steps=200, options=SLOW)
        await wait_for_step(client, accepted.id)
    front.kill()
    with closing(sqlite3.connect(front.data / "atelier.db")) as db, db:
        db.execute("UPDATE generations SET cancel_requested = 1")
    again = launching("front", address=address, engines=forwarding_engines(other.address))
    ended = (await list_generations(again))[0]
    assert (ended.state, ended.cancel_outcome) == (State.CANCELLED, CancelOutcome.VENDOR_MAY_BILL)
    while (await list_generations(other))[0].state is not State.CANCELLED:  # noqa: ASYNC110 (elsewhere)
        await asyncio.sleep(0.05)


async def test_the_second_server_may_be_killed(launching: Launch) -> None:
    """It runs the generation again, and the first one follows it: one generation on each."""
    address = f"127.0.0.1:{free_port()}"
    second = launching("second", address=address)
    front = launching("front", engines=forwarding_engines(address))
    async with AsyncClient(front.address) as client:
        accepted = await client.submit("a lamp", engine="far", steps=40, options=BRISK)
        await wait_for_step(client, accepted.id, step=5)
    second.kill()
    second = launching("second", address=address)
    made = await wait_until_finished(front, accepted.id)
    assert made.state is State.SUCCEEDED
    there = await list_generations(second)
    assert [one.state for one in there] == [State.SUCCEEDED]
    assert there[0].receipt is not None
    assert len(there[0].receipt.attempts) == 2


async def test_the_first_server_may_be_killed(launching: Launch, other: RunningServer) -> None:
    """It finds the generation again, and starts no second one."""
    before = {one.id for one in await list_generations(other)}
    address = f"127.0.0.1:{free_port()}"
    front = launching("front", address=address, engines=forwarding_engines(other.address))
    async with AsyncClient(address) as client:
        accepted = await client.submit("a lamp", engine="far", steps=40, options=BRISK)
        await wait_for_step(client, accepted.id, step=5)
    front.kill()
    front = launching("front", address=address, engines=forwarding_engines(other.address))
    made = await wait_until_finished(front, accepted.id)
    assert made.receipt is not None
    assert len(made.receipt.attempts) == 2
    there = [one for one in await list_generations(other) if one.id not in before]
    assert [one.state for one in there] == [State.SUCCEEDED]
    assert there[0].receipt is not None
    assert len(there[0].receipt.attempts) == 1


async def test_the_first_server_may_be_told_to_stop(
    launching: Launch, other: RunningServer
) -> None:
    """Its drain is too short; the generation there goes on meanwhile, and is the only one."""
    before = {one.id for one in await list_generations(other)}
    address = f"127.0.0.1:{free_port()}"
    settings = {"engines": forwarding_engines(other.address), "drain_seconds": 0.1}
    front = launching("front", address=address, **settings)
    async with AsyncClient(address) as client:
        accepted = await client.submit("a lamp", engine="far", steps=40, options=BRISK)
        await wait_for_step(client, accepted.id, step=5)
    assert await asyncio.to_thread(front.terminate) == 0
    (there,) = [one for one in await list_generations(other) if one.id not in before]
    assert there.state is not State.CANCELLED
    front = launching("front", address=address, **settings)
    made = await wait_until_finished(front, accepted.id)
    assert made.state is State.SUCCEEDED
    assert made.receipt is not None
    outcomes = [attempt.outcome.name for attempt in made.receipt.attempts]
    assert outcomes == ["RELEASED", "SUCCEEDED"]
    (there,) = [one for one in await list_generations(other) if one.id not in before]
    assert there.state is State.SUCCEEDED
    assert there.receipt is not None
    assert len(there.receipt.attempts) == 1


async def test_a_fallback_runs_when_the_second_server_is_unreachable(
    launching: Launch,
) -> None:
    """Nothing was started, so a fallback is safe."""
    second = launching("second")
    engines = forwarding_engines(second.address, fallbacks=["near"])
    front = launching("front", engines=engines, health_interval_seconds=60)
    second.kill()
    async with AsyncClient(front.address) as client:
        made = await client.generate("a lamp", engine="far", width=64, height=64)
    assert made.engine == "near"
    assert made.receipt is not None
    assert [attempt.engine for attempt in made.receipt.attempts] == ["far", "near"]


async def test_an_engine_works_while_another_of_its_server_loads(
    launching: Launch, tmp_path: Path
) -> None:
    """The second server is not ready as a whole, but accepts what this engine can do."""
    loading = {"type": "odd", "start": "hangs"}
    second = launching(
        "second",
        wait=["sketch"],
        environment=install_odd(tmp_path / "site"),
        engines={"loading": loading, "sketch": {"type": "sketch"}},
    )
    far = {"type": "atelier", "address": second.address, "engine": "sketch"}
    front = launching("front", engines={"far": far})
    async with AsyncClient(front.address) as client:
        made = await client.generate("a lamp", width=64, height=64)
    assert made.engine == "far"


async def test_a_cancellation_at_the_second_server_is_a_failure_at_the_first(
    launching: Launch, other: RunningServer
) -> None:
    """There it was not cancelled."""
    front = launching("front", engines=forwarding_engines(other.address))
    async with AsyncClient(front.address) as client, AsyncClient(other.address) as there:
        accepted = await client.submit("a lamp", engine="far", steps=200, options=SLOW)
        await wait_for_step(client, accepted.id)
        await there.cancel((await list_generations(other))[0].id)
    with pytest.raises(GenerationFailedError, match="cancelled"):
        await wait_until_finished(front, accepted.id)


async def test_the_link_to_the_second_server_may_be_cut_after_long_silences(
    launching: Launch, other: RunningServer
) -> None:
    """A task that is silent for longer than the time to retry is attached again, each time."""
    before = {one.id for one in await list_generations(other)}
    async with run_proxy(other.address) as proxy:
        engines = forwarding_engines(proxy.address, retry_timeout_seconds=1.5)
        front = await asyncio.to_thread(launching, "front", engines=engines)
        async with AsyncClient(front.address) as client, AsyncClient(other.address) as there:
            accepted = await client.submit("a lamp", engine="far", steps=1, options=SLOW)
            async with aclosing(client.follow(accepted.id)) as story:
                async for progress in story:
                    if progress.stage == "draw":
                        break
            for _ in range(3):
                await asyncio.sleep(2.0)
                proxy.cut()
            (made,) = [one for one in await list_generations(other) if one.id not in before]
            assert not made.state.ended
            await there.cancel(made.id)
        with pytest.raises(GenerationFailedError, match="cancelled"):
            await wait_until_finished(front, accepted.id)
