"""A server whose generations are in PostgreSQL, and what becomes of its work when it or the database dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
import yaml
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import CancelCause, Generation, State
from tests.artifacts.bucket_server import BucketServer
from tests.conftest import RunningServer, StartServer, launch
from tests.postgres_server import PostgresServer, postgres_server
from tests.resilience.follower import Connect, Follower, list_all, wait_ended, wait_until
from tests.server.calls import Stub, image_request, on_acceptance, refusal, slow_request

__all__ = ["postgres_server"]


def settings(dsn: str) -> dict[str, object]:
    """A server whose work is taken over soon."""
    return {
        "engines": {
            "sketch": {"type": "sketch", "concurrency": 2},
            "dear": {"type": "sketch", "price_per_image": 0.5, "daily_budget": 0.5},
        },
        "store": {"type": "postgres", "dsn": dsn, "lease_seconds": 2},
        "limits": {"abandoned_grace_seconds": 0.1},
    }


async def test_what_a_server_has_accepted_survives_it_and_a_restart_of_its_database(
    start_server: StartServer, connect: Connect, postgres_server: PostgresServer
) -> None:
    """Both die while work is under way; all of it succeeds, and no file of the server has it."""
    dsn = postgres_server.make_database()
    server = start_server(**settings(dsn))
    async with connect(server) as stub:
        ids = [
            (await stub.Generate(on_acceptance(image_request()))).generation.id for _ in range(5)
        ]
        await asyncio.to_thread(postgres_server.crash)
        ids += [
            (await stub.Generate(on_acceptance(image_request()))).generation.id for _ in range(5)
        ]
        server.kill()
    server = start_server(**settings(dsn))
    async with connect(server) as stub:
        found = await wait_ended(stub, ids)
    assert {made.state for made in found} == {State.STATE_SUCCEEDED}
    assert not (server.data / "atelier.db").exists()


@pytest.fixture
def two_servers(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[list[RunningServer]]:
    """Servers on two machines, as far as they can tell, with one database and one bucket."""
    bucket = BucketServer(tmp_path / "s3")
    bucket.start()
    shared = {**settings(postgres_server.make_database()), "artifacts": bucket.settings}
    servers: list[RunningServer] = []
    try:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            servers.append(launch(tmp_path / name, **shared))  # type: ignore[arg-type]  # settings by name
        yield servers
    finally:
        for server in servers:
            server.kill()
        bucket.stop()


def freeze(server: RunningServer) -> None:
    """Stop it for longer than its lease; the fixture kills it."""
    server.process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("lose", [RunningServer.kill, freeze])
async def test_another_server_ends_what_one_was_running(
    two_servers: list[RunningServer], connect: Connect, lose: Callable[[RunningServer], None]
) -> None:
    """It is followed there from the first event to the last, each once, and its outputs are read there.

    A server that wakes up afterwards finds that its work is no longer its own, which is no fault.
    """
    first, second = two_servers
    async with connect(first) as stub, connect(second) as other:
        cancelled = (await stub.Generate(on_acceptance(slow_request(30)))).generation.id
        request = pb.CancelGenerationRequest(generation_id=cancelled)
        found = (await other.CancelGeneration(request)).generation
        assert found.state == State.STATE_CANCELLED
        requests = [on_acceptance(slow_request(1, steps=10)) for _ in range(4)]
        followers = [Follower((await stub.Generate(each)).generation.id) for each in requests]
        following = [asyncio.create_task(each.follow(other)) for each in followers]
        lose(first)
        await asyncio.gather(*following)
        for each in followers:
            assert each.last_state == State.STATE_SUCCEEDED
            assert each.sequences == list(range(1, len(each.events) + 1))
            (output,) = each.events[-1].generation.outputs
            download = pb.DownloadArtifactRequest(artifact_id=output.artifact.id)
            data = b"".join([answer.chunk async for answer in other.DownloadArtifact(download)])
            assert len(data) == output.artifact.size
        if lose is freeze:
            first.process.send_signal(signal.SIGCONT)
            while len(said(first, "claim_lost")) < 2:  # noqa: ASYNC110 (another process writes the log)
                await asyncio.sleep(0.02)
            assert said(first, "internal_error", "generation_failed") == []
            assert {line["level"] for line in said(first, "claim_lost")} == {"info"}


def said(server: RunningServer, *events: str) -> list[dict[str, Any]]:
    """The lines of the server's log with one of these names."""
    return [line for line in server.log_lines() if line["event"] in events]


def query(server: RunningServer, statement: str) -> list[tuple[object, ...]]:
    """What the server's database answers."""
    dsn = yaml.safe_load(server.config.read_text())["store"]["dsn"]
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


async def submitters(server: RunningServer) -> set[object]:
    """The numbers of the servers that have accepted something, and whose own calls still want it."""
    found = await asyncio.to_thread(query, server, "SELECT submitter FROM generations")
    return {number for (number,) in found}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that follows a generation, as long as this object lives."""

    events: aio.UnaryStreamCall[pb.StreamProgressRequest, pb.StreamProgressResponse]
    reading: AsyncIterator[pb.StreamProgressResponse]

    @classmethod
    async def open(
        cls, stub: Stub, request: pb.StreamProgressRequest, state: State.ValueType
    ) -> Self:
        """Follow it until it has that state."""
        events = stub.StreamProgress(request)
        call = cls(events, aiter(events))
        while (await anext(call.reading)).state != state:
            pass
        return call

    def lose(self) -> None:
        """End the call without the end of the generation."""
        self.events.cancel()


async def test_a_call_at_another_server_keeps_a_generation(
    two_servers: list[RunningServer], connect: Connect
) -> None:
    """Losing a call at one server cancels nothing while the same request waits at the other; losing both does."""
    first, second = two_servers
    hangs = image_request(request_id="same", options={"hang": True})
    request, running = pb.StreamProgressRequest(generate=hangs), State.STATE_RUNNING
    async with connect(first) as stub, connect(second) as other:
        accepted = await Call.open(stub, request, running)
        found = await Call.open(other, request, running)
        (made,) = (generation.id for generation in await list_all(stub))
        accepted.lose()
        await wait_until(lambda: _has_left(first))
        assert (await _find(other, made)).state == running
        again = await Call.open(stub, request, running)
        found.lose()
        await wait_until(lambda: _count(first, "attendances", 1))
        assert (await _find(other, made)).state == running
        again.lose()
        await wait_until(lambda: _has_ended(other, made))
        assert (await _find(other, made)).cancel_cause == CancelCause.CANCEL_CAUSE_CALLERS_LOST
        retried = await Call.open(other, request, running)
        third = await Call.open(stub, request, running)
        await asyncio.to_thread(second.kill)
        await wait_until(lambda: _count(first, "processes", 1))  # nobody waits there any more
        third.lose()
        await wait_until(lambda: _has_ended(stub, made))
        del retried


async def test_a_call_that_follows_at_another_server_takes_over_what_waits(
    two_servers: list[RunningServer], connect: Connect
) -> None:
    """When the call that started it is lost; losing the last one cancels it after the grace period."""
    first, second = two_servers
    queued = State.STATE_QUEUED
    async with connect(first) as stub, connect(second) as other:
        await stub.PauseEngine(pb.PauseEngineRequest(engine="sketch"))
        request = pb.StreamProgressRequest(generate=image_request(request_id="same"))
        accepted = await Call.open(stub, request, queued)
        (made,) = (generation.id for generation in await list_all(stub))
        request = pb.StreamProgressRequest(generation_id=made)
        follower = await Call.open(other, request, queued)
        accepted.lose()
        await wait_until(lambda: _has_left(first))
        assert (await _find(other, made)).state == queued
        follower.lose()
        await wait_until(lambda: _has_ended(other, made))
        assert not await asyncio.to_thread(query, first, "TABLE attendances")


async def _has_left(server: RunningServer) -> bool:
    return await submitters(server) == {None}


async def _count(server: RunningServer, table: str, count: int) -> bool:
    return len(await asyncio.to_thread(query, server, f"TABLE {table}")) == count


async def _find(stub: Stub, generation_id: str) -> Generation:
    request = pb.GetGenerationRequest(generation_id=generation_id)
    return (await stub.GetGeneration(request)).generation


async def _has_ended(stub: Stub, generation_id: str) -> bool:
    return (await _find(stub, generation_id)).state == State.STATE_CANCELLED


async def test_servers_learn_what_others_have_paused_and_spent(
    two_servers: list[RunningServer], connect: Connect
) -> None:
    """A budget is that of all servers together; a pause is shown, and ends, everywhere."""
    first, second = two_servers
    async with connect(first) as stub, connect(second) as other:
        await stub.Generate(image_request(engine="dear"))
        await stub.PauseEngine(pb.PauseEngineRequest(engine="dear"))
        await wait_until(lambda: _shows_pause(other))
        refused = await refusal(other.Generate(on_acceptance(image_request(engine="dear"))))
        assert refused.reason == "BUDGET_EXCEEDED"
        await stub.ResumeEngine(pb.ResumeEngineRequest(engine="dear"))
        await wait_until(lambda: _shows_no_pause(other))


async def _shows_pause(stub: Stub) -> bool:
    answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
    return any(engine.HasField("pause") for engine in answer.engines)


async def _shows_no_pause(stub: Stub) -> bool:
    return not await _shows_pause(stub)
