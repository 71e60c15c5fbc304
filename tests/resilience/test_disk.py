"""Full disks, missing files and damaged files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import RunningServer, StartServer, launch
from tests.resilience.follower import Connect, artifact_ids, list_all, list_blobs, wait_ended
from tests.server.calls import image_request, on_acceptance, refusal

_MIB = 2**20
_LARGE = {"sketch": {"type": "sketch", "output_bytes": _MIB}}


@contextmanager
def limit_file_size(server: RunningServer, largest_file: int) -> Iterator[None]:
    """Let no file of the server grow beyond so many bytes, as if the disk were full then."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (largest_file, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


async def test_an_output_that_does_not_fit_on_the_disk_fails_its_generation_alone(
    start_server: StartServer, connect: Connect
) -> None:
    """No partial file stays behind, and once there is space again the next one succeeds."""
    server = start_server(engines=_LARGE)
    async with connect(server) as stub:
        with limit_file_size(server, _MIB // 2):
            refused = await refusal(stub.Generate(image_request()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert not list_blobs(server.data)
        made = (await stub.Generate(image_request())).generation
        assert made.state == State.STATE_SUCCEEDED
        assert list_blobs(server.data) == artifact_ids([made])


async def test_a_full_disk_loses_nothing_that_was_accepted(
    start_server: StartServer, connect: Connect
) -> None:
    """While nothing can be written, new work is refused; what was accepted before is executed afterwards."""
    server = start_server(engines={"sketch": {"type": "sketch", "delay_seconds": 0.3}})
    async with connect(server) as stub:
        ids = [
            (await stub.Generate(on_acceptance(image_request()))).generation.id for _ in range(12)
        ]
        with limit_file_size(server, 4096):
            refused = await refusal(stub.Generate(on_acceptance(image_request())))
            assert refused.code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
            assert refused.reason
        found = await wait_ended(stub, ids)
        assert {made.id for made in found} == set(ids)
        made = (await stub.Generate(image_request())).generation
        assert made.state == State.STATE_SUCCEEDED
    assert server.process.poll() is None


async def test_a_lost_artifacts_folder_fails_generations_with_an_error_of_their_own(
    start_server: StartServer, connect: Connect
) -> None:
    """Their callers are answered, and generations succeed again once the folder is back."""
    server = start_server()
    folder = server.data / "artifacts"
    async with connect(server) as stub:
        folder.rename(folder.with_name("elsewhere"))
        refused = await refusal(stub.Generate(image_request()))
        assert refused.code is grpc.StatusCode.INTERNAL
        assert str(folder) not in refused.message
        folder.with_name("elsewhere").rename(folder)
        assert (await stub.Generate(image_request())).generation.outputs


async def test_an_output_whose_file_is_gone_is_data_loss(
    start_server: StartServer, connect: Connect
) -> None:
    """Reported to the caller as DATA_LOSS, not as an internal error."""
    server = start_server()
    async with connect(server) as stub:
        made = (await stub.Generate(image_request())).generation
    server.terminate()  # the newest outputs are answered from memory; a new process has none
    (server.data / "artifacts" / made.outputs[0].artifact.id).unlink()
    async with connect(start_server()) as stub:
        again = await refusal(
            stub.GetGeneration(pb.GetGenerationRequest(generation_id=made.id, inline_outputs=True))
        )
    assert (again.code, again.reason) == (grpc.StatusCode.DATA_LOSS, "ARTIFACT_CORRUPT")


@pytest.mark.parametrize("damage", ["not a database", "torn"])
def test_a_broken_database_is_refused_and_left_as_it_is(
    start_server: StartServer, damage: str
) -> None:
    """The server does not start, names the file, and does not make an empty one in its place."""
    server = start_server()
    assert server.terminate() == 0
    path = server.data / "atelier.db"
    broken = b"no database" * 1000 if damage == "not a database" else _torn(path)
    path.write_bytes(broken)
    again = start_server(wait=False)
    assert again.process.wait(30) == 1
    assert path.name in again.log.read_text().splitlines()[-1]
    assert "Traceback" not in again.log.read_text()
    assert path.read_bytes() == broken


def _torn(path: Path) -> bytes:
    """The file with its first pages overwritten, except for the header that marks it as a database."""
    whole = path.read_bytes()
    return whole[:100] + os.urandom(len(whole) - 100)


async def test_a_second_server_on_the_same_data_is_refused(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    """It says so in one line and exits; the first is not affected."""
    server = start_server()
    (tmp_path / "second").mkdir()
    second = launch(tmp_path / "second", data_dir=str(server.data), wait=False)
    assert second.process.wait(30) == 1
    said = second.log.read_text()
    assert "another server" in said
    assert "Traceback" not in said
    async with connect(server) as stub:
        assert (await stub.Generate(image_request())).generation.state == State.STATE_SUCCEEDED
        assert len(await list_all(stub)) == 1
