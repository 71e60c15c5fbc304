"""A server whose generations are in PostgreSQL, and what becomes of its work when it or the database dies."""

from __future__ import annotations

import asyncio

from atelier.v1.generation_pb2 import State
from tests.conftest import StartServer
from tests.postgres_server import PostgresServer, postgres_server
from tests.resilience.follower import Connect, wait_ended
from tests.server.calls import image_request, on_acceptance

__all__ = ["postgres_server"]


def settings(dsn: str) -> dict[str, object]:
    """A server whose work is taken over soon."""
    return {
        "engines": {"sketch": {"type": "sketch", "concurrency": 2}},
        "store": {"type": "postgres", "dsn": dsn, "lease_seconds": 1},
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
