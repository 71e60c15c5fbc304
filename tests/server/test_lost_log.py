"""A database whose write-ahead log was damaged says what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, on_acceptance, slow_request

ACCEPTED = 20


def cut(log: Path) -> None:
    """Lose the second half, as a file system that was not written out would."""
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)


def flip_a_bit(log: Path) -> None:
    """Damage one bit in the middle."""
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)


def remove(log: Path) -> None:
    """Forget the file, as a copy of the database alone does."""
    log.unlink()


async def accept_and_kill(server: RunningServer) -> None:
    """Have the server accept one running and nineteen waiting generations, and kill it."""
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        for _ in range(ACCEPTED):
            await stub.Generate(on_acceptance(slow_request(engine="narrow")))
    server.kill()


async def count_generations(server: RunningServer) -> int:
    """How many generations the server knows."""
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        page = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=100))
        return len(page.generations)


def losses(server: RunningServer) -> list[dict[str, Any]]:
    """What the servers over this data have said about lost transactions."""
    return [line for line in server.log_lines() if line["event"] == "database_transactions_lost"]


@pytest.mark.parametrize("damage", [cut, flip_a_bit, remove])
async def test_a_damaged_log_is_reported_with_what_is_missing(
    start_server: StartServer, damage: Callable[[Path], None]
) -> None:
    """The start says how many transactions and generations there were, and how many there are; once."""
    engines = {"narrow": {"type": "sketch", "concurrency": 1}}
    server = start_server(engines=engines)
    # a first start and stop bring the tables from the log into the database
    assert server.terminate() == 0
    server = start_server(engines=engines)
    await accept_and_kill(server)
    await asyncio.to_thread(damage, server.data / "atelier.db-wal")
    again = start_server(engines=engines)
    (loss,) = losses(again)
    assert loss["level"] == "error"
    assert loss["expected_generations"] == ACCEPTED
    recovered = await count_generations(again)
    assert loss["recovered_generations"] == recovered < ACCEPTED
    assert loss["recovered_transactions"] < loss["expected_transactions"]
    again.kill()
    assert losses(start_server(engines=engines)) == [loss]


async def test_a_killed_server_has_lost_nothing(start_server: StartServer) -> None:
    """What was accepted before the death of the process is all there, and no loss is reported."""
    engines = {"narrow": {"type": "sketch", "concurrency": 1}}
    server = start_server(engines=engines)
    await accept_and_kill(server)
    again = start_server(engines=engines)
    assert losses(again) == []
    assert await count_generations(again) == ACCEPTED
