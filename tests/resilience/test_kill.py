"""What a server has accepted survives kill -9."""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import suppress
from typing import Any

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import AttemptOutcome, Generation, State
from tests.conftest import RunningServer, StartServer
from tests.resilience.follower import (
    ENDED,
    Connect,
    Follower,
    artifact_ids,
    list_all,
    list_blobs,
    wait_ended,
    wait_until,
)
from tests.server.calls import Stub, image_request, on_acceptance
from tests.server.test_metrics import key, samples

_QUEUED, _RUNNING = 20, 2


def _sketch(**settings: object) -> dict[str, dict[str, object]]:
    return {"sketch": {"type": "sketch", **settings}}


async def test_all_survive_a_kill_and_every_event_is_seen_once(
    start_server: StartServer, connect: Connect
) -> None:
    """Two were running and twenty waiting; each follower continues after its last event."""
    server = start_server(engines=_sketch(concurrency=_RUNNING, delay_seconds=60))
    async with connect(server) as stub:
        accepted = [
            (await stub.Generate(on_acceptance(image_request()))).generation.id
            for _ in range(_QUEUED + _RUNNING)
        ]
        followers = [Follower(generation_id) for generation_id in accepted]
        following = [asyncio.create_task(follower.follow(stub)) for follower in followers]

        async def under_way() -> bool:
            heard = [follower.last_state for follower in followers]
            return (
                heard.count(State.STATE_RUNNING) == _RUNNING
                and heard.count(State.STATE_QUEUED) == _QUEUED
            )

        await wait_until(under_way)
        server.kill()
        await asyncio.gather(*following)

    again = start_server(
        address=server.address, engines=_sketch(concurrency=_RUNNING, delay_seconds=0.05)
    )
    async with connect(again) as stub:
        await asyncio.gather(*(follower.follow(stub) for follower in followers))
    for follower in followers:
        assert follower.last_state == State.STATE_SUCCEEDED
        assert follower.sequences == list(range(1, len(follower.events) + 1))
    attempts = [_attempts(follower.events[-1].generation) for follower in followers]
    assert attempts[:_RUNNING] == [["ABANDONED", "SUCCEEDED"]] * _RUNNING
    assert attempts[_RUNNING:] == [["SUCCEEDED"]] * _QUEUED


@pytest.mark.parametrize("seed", [1, 2])
async def test_kills_at_any_moment_lose_nothing_and_execute_nothing_twice(
    start_server: StartServer, connect: Connect, seed: int
) -> None:
    """Callers who never got an answer ask again under the same request id, and get the same generation."""
    chance = random.Random(seed)  # noqa: S311 (moments, not secrets)
    settings: dict[str, Any] = {
        "engines": _sketch(concurrency=3, delay_seconds=0.03),
        "store": {"max_attempts": 50},
    }
    promised: dict[str, str] = {}
    asked: set[str] = set()
    server = start_server(**settings)
    for _ in range(4):
        async with connect(server) as stub:
            callers = [
                asyncio.create_task(_submit_until_killed(stub, asked, promised)) for _ in range(4)
            ]
            await asyncio.sleep(chance.uniform(0.0, 0.6))
            server.kill()
            await asyncio.gather(*callers)
        server = start_server(address=server.address, **settings)

    async with connect(server) as stub:
        for request_id in sorted(asked):
            generation = (await stub.Generate(_request(request_id))).generation
            assert promised.setdefault(request_id, generation.id) == generation.id
        found = await wait_ended(stub, promised.values())
    assert sorted(generation.request_id for generation in found) == sorted(asked)
    for generation in found:
        assert generation.state == State.STATE_SUCCEEDED
        assert _attempts(generation).count("SUCCEEDED") == 1
        assert _attempts(generation)[-1] == "SUCCEEDED"
    assert list_blobs(server.data) == artifact_ids(found)


async def test_outputs_of_an_abandoned_attempt_are_deleted(
    start_server: StartServer, connect: Connect
) -> None:
    """The first of two images was stored when the server was killed; after the restart its file is gone."""
    server = start_server(engines=_sketch(delay_seconds=1.0))
    async with connect(server) as stub:
        await stub.Generate(on_acceptance(image_request(task={"num_images": 2, "steps": 4})))

        async def first_is_stored() -> bool:
            return bool(list_blobs(server.data))

        await wait_until(first_is_stored)
        server.kill()
    abandoned = list_blobs(server.data)

    again = start_server(address=server.address, engines=_sketch())
    async with connect(again) as stub:
        ids = [generation.id for generation in await list_all(stub)]
        found = await wait_ended(stub, ids)
    assert abandoned.isdisjoint(list_blobs(again.data))
    assert list_blobs(again.data) == artifact_ids(found)


@pytest.mark.parametrize("lost", ["all", "newest records"])
async def test_outputs_outlive_the_loss_of_the_database(
    start_server: StartServer, connect: Connect, lost: str
) -> None:
    """The file moved away, or copied without its -wal: nothing is deleted, and once restored, all can be read."""
    server = start_server(engines=_sketch())
    async with connect(server) as stub:
        made = (await stub.Generate(image_request())).generation
        server.kill()
    moved = server.data.parent / "moved"
    moved.mkdir()
    for path in server.data.glob("atelier.db*" if lost == "all" else "atelier.db-*"):
        path.rename(moved / path.name)

    again = start_server(address=server.address, engines=_sketch())
    assert "artifacts_without_database" in again.log.read_text()
    async with connect(again) as stub:
        await stub.Generate(image_request())
        again.kill()
    assert artifact_ids([made]) < list_blobs(server.data)

    for path in server.data.glob("atelier.db*"):
        path.unlink()
    for path in moved.iterdir():
        path.rename(server.data / path.name)
    restored = start_server(address=server.address, engines=_sketch())
    if lost == "all":
        request = pb.GetGenerationRequest(generation_id=made.id, inline_outputs=True)
        async with connect(restored) as stub:
            found = (await stub.GetGeneration(request)).generation
        assert found.outputs[0].data


async def test_a_generation_that_kills_the_server_fails_in_the_end_and_others_go_on(
    start_server: StartServer, connect: Connect, lethal: dict[str, str]
) -> None:
    """After the last attempt it has FAILED with the reason POISONED; what waited behind it succeeds."""
    settings: dict[str, Any] = {
        "engines": {"sketch": {"type": "lethal", "concurrency": 1}},
        "store": {"max_attempts": 3},
        "environment": lethal,
    }
    server = start_server(**settings)
    async with connect(server) as stub:
        ids = [await _submit(stub, image_request("live")), await _submit(stub, _lethal_request())]
    follower = Follower(ids[1])
    deaths = 0
    while not await _ended_before_server(server, connect, follower):
        deaths += 1
        server = start_server(address=server.address, wait=False, **settings)
    async with connect(server) as stub:
        ids.append(await _submit(stub, image_request("live on")))
        found = {generation.id: generation for generation in await wait_ended(stub, ids)}
    first, poisoned, last = (found[generation_id] for generation_id in ids)
    assert deaths == 3
    assert (first.state, last.state) == (State.STATE_SUCCEEDED, State.STATE_SUCCEEDED)
    assert poisoned.state == State.STATE_FAILED
    assert poisoned.failure.reason == "POISONED"
    assert not poisoned.failure.retryable
    assert _attempts(poisoned) == ["ABANDONED"] * 3
    failed = key("atelier_generations_total", engine="sketch", outcome="failed")
    assert samples(server)[failed] == 1, "what ended at the start is counted too"


async def test_what_runs_beside_a_generation_that_kills_the_server_is_not_given_up(
    start_server: StartServer, connect: Connect, lethal: dict[str, str]
) -> None:
    """All were running at the first death; then each runs alone, and only the one that kills is POISONED."""
    settings: dict[str, Any] = {
        "engines": {"sketch": {"type": "lethal", "concurrency": 3}},
        "store": {"max_attempts": 2},
        "environment": lethal,
    }
    server = start_server(**settings)
    slow = image_request("live", task={"steps": 4}, options={"delay_seconds": 8.0})
    async with connect(server) as stub:
        innocent = [await _submit(stub, slow), await _submit(stub, slow)]
        ids = [*innocent, await _submit(stub, _lethal_request())]
    follower = Follower(ids[-1])
    while not await _ended_before_server(server, connect, follower):
        server = start_server(address=server.address, wait=False, **settings)
    async with connect(server) as stub:
        found = {generation.id: generation for generation in await wait_ended(stub, ids)}
    assert found[ids[-1]].failure.reason == "POISONED"
    assert _attempts(found[ids[-1]]) == ["ABANDONED"] * 2
    for generation_id in innocent:
        assert _attempts(found[generation_id]) == ["ABANDONED", "SUCCEEDED"]


def _attempts(generation: Generation) -> list[str]:
    return [
        AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_")
        for attempt in generation.receipt.attempts
    ]


def _request(request_id: str) -> pb.GenerateRequest:
    return on_acceptance(image_request(request_id=request_id))


async def _submit_until_killed(stub: Stub, asked: set[str], promised: dict[str, str]) -> None:
    """Submit one after the other until the server is gone."""
    with suppress(aio.AioRpcError):
        while True:
            request_id = uuid.uuid4().hex
            asked.add(request_id)
            response = await stub.Generate(_request(request_id))
            promised[request_id] = response.generation.id
            await asyncio.sleep(0.02)


async def _submit(stub: Stub, request: pb.GenerateRequest) -> str:
    return (await stub.Generate(on_acceptance(request))).generation.id


async def _ended_before_server(server: RunningServer, connect: Connect, follower: Follower) -> bool:
    """Whether the generation ended while the server was still running."""
    async with connect(server) as stub:
        following = asyncio.create_task(follower.follow(stub))

        async def ended() -> bool:
            return server.process.poll() is not None or follower.last_state in ENDED

        await wait_until(ended)
        following.cancel()
    return follower.last_state in ENDED


def _lethal_request() -> pb.GenerateRequest:
    """Kills the server at its first step, half a second after it was started."""
    return image_request("die", task={"steps": 4}, options={"delay_seconds": 2.0})
