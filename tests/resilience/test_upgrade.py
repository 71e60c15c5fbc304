"""A server takes over the data of an older version."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import StartServer
from tests.resilience.follower import Connect, list_all, wait_ended

OLD = Path(__file__).parent.parent / "store" / "data" / "version-0"
ENGINES = {name: {"type": "sketch", "concurrency": 1} for name in ("sketch", "slow", "faulty")}


async def test_what_an_older_version_accepted_is_executed_and_what_it_finished_is_read(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    """Its queue is executed, with true receipts; outputs of ended generations can be read."""
    shutil.copytree(OLD, tmp_path / "data")
    server = start_server(engines=ENGINES)
    async with connect(server) as stub:
        ids = [generation.id for generation in await list_all(stub)]
        found = {made.request_id: made for made in await wait_ended(stub, ids)}
        for name in ("remote", "running", "waiting", "with-input", "image", "audio"):
            assert found[name].state == State.STATE_SUCCEEDED, name
            assert found[name].receipt.parameters
        assert found["cancelling"].state == State.STATE_CANCELLED
        assert found["failed"].state == State.STATE_FAILED
        size = found["waiting"].outputs[0].artifact.image_size
        assert (size.width, size.height) == (64, 64)
        request = pb.GetGenerationRequest(generation_id=found["image"].id, inline_outputs=True)
        old = (await stub.GetGeneration(request)).generation
        assert old.outputs[0].data.startswith(b"\x89PNG")


async def test_data_of_a_newer_version_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The server does not start and says in one line what to do."""
    shutil.copytree(OLD, tmp_path / "data")
    with sqlite3.connect(tmp_path / "data" / "atelier.db") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    server = start_server(engines=ENGINES, wait=False)
    assert server.process.wait(30) == 1
    last = server.log.read_text().splitlines()[-1]
    assert "version 1000" in last
    assert "newer server" in last
