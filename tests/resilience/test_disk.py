"""Full disks, missing files and damaged files."""

from __future__ import annotations

import asyncio
import os
import resource
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import RunningServer, StartServer, launch
from tests.resilience.follower import Connect, artifact_ids, list_all, list_blobs, wait_ended
from tests.server.calls import Stub, image_request, on_acceptance, refusal
from tests.small_disk import MountError, mounted, resize

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


@contextmanager
def mount_small(directory: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at the directory; skips the test where none may be mounted."""
    with ExitStack() as stack:
        try:
            stack.enter_context(mounted(directory, size))
        except MountError as error:
            pytest.skip(str(error))
        yield


def read_http(server: RunningServer, path: str) -> tuple[int, str]:
    """Status and text of a page of the HTTP port."""
    try:
        with urllib.request.urlopen(f"http://{server.metrics_address}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


async def wait_health(stub: Stub, status: pb.ServingStatus.ValueType) -> str:
    """The message of Health once it has the status."""
    while (health := await stub.Health(pb.HealthRequest())).status != status:  # noqa: ASYNC110 (it happens in another process)
        await asyncio.sleep(0.02)
    return health.message


async def test_a_full_file_system_ends_no_generation(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    """20 outputs of 1 MiB for 12 MiB: the rest waits, new work is refused, and all succeed once there is space."""
    with mount_small(tmp_path / "data", 12 * _MIB):
        ballast = tmp_path / "data" / "ballast"
        ballast.write_bytes(bytes(3 * _MIB))
        store = {"min_free_bytes": _MIB, "retention_seconds": 3600}
        server = start_server(engines=_LARGE, store=store)
        async with connect(server) as stub:
            ids = [
                (await stub.Generate(on_acceptance(image_request()))).generation.id
                for _ in range(4)
            ]
            await wait_ended(stub, ids)
            for _ in range(20):
                with suppress(aio.AioRpcError):
                    made = await stub.Generate(on_acceptance(image_request()))
                    ids.append(made.generation.id)
            message = await wait_health(stub, pb.SERVING_STATUS_NOT_SERVING)
            assert message
            assert read_http(server, "/readyz")[0] == 503
            assert "atelier_storage_free_bytes" in read_http(server, "/metrics")[1]
            refused = await refusal(stub.Generate(image_request()))
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.UNAVAILABLE,
                "STORAGE_UNAVAILABLE",
            )
            assert refused.retry_seconds == 5
            states = {made.state for made in await list_all(stub)}
            assert State.STATE_FAILED not in states
            resize(tmp_path / "data", 64 * _MIB)
            found = await wait_ended(stub, ids)
            assert {made.state for made in found} == {State.STATE_SUCCEEDED}
            await wait_health(stub, pb.SERVING_STATUS_SERVING)
            assert read_http(server, "/readyz")[0] == 200
        assert server.terminate() == 0


async def test_an_output_that_does_not_fit_on_the_disk_waits_for_space(
    start_server: StartServer, connect: Connect
) -> None:
    """It is written once there is space, and no partial file stays behind."""
    server = start_server(engines=_LARGE)
    async with connect(server) as stub:
        with limit_file_size(server, _MIB // 2):
            made = (await stub.Generate(on_acceptance(image_request()))).generation
            assert await wait_health(stub, pb.SERVING_STATUS_NOT_SERVING)
            assert (await refusal(stub.Generate(image_request()))).retry_seconds
        (ended,) = await wait_ended(stub, [made.id])
        assert ended.state == State.STATE_SUCCEEDED
        assert len(ended.receipt.attempts) == 1
        await wait_health(stub, pb.SERVING_STATUS_SERVING)
        assert list_blobs(server.data) == artifact_ids([ended])


async def test_a_full_disk_loses_nothing_that_was_accepted(
    start_server: StartServer, connect: Connect
) -> None:
    """While nothing can be written, new work is refused; what was accepted before succeeds afterwards."""
    server = start_server(engines={"sketch": {"type": "sketch", "delay_seconds": 0.3}})
    async with connect(server) as stub:
        ids = [
            (await stub.Generate(on_acceptance(image_request()))).generation.id for _ in range(12)
        ]
        with limit_file_size(server, 4096):
            refused = await refusal(stub.Generate(on_acceptance(image_request())))
            assert refused.code is grpc.StatusCode.UNAVAILABLE
            assert refused.reason == "STORAGE_UNAVAILABLE"
        found = await wait_ended(stub, ids)
        assert {made.id for made in found} == set(ids)
        assert {made.state for made in found} == {State.STATE_SUCCEEDED}
        await wait_health(stub, pb.SERVING_STATUS_SERVING)
        made = (await stub.Generate(image_request())).generation
        assert made.state == State.STATE_SUCCEEDED
    assert server.process.poll() is None


async def test_a_lost_artifacts_folder_ends_no_generation(
    start_server: StartServer, connect: Connect
) -> None:
    """Callers are told to come back, without its path; what was accepted succeeds once the folder is back."""
    server = start_server(engines={"sketch": {"type": "sketch", "delay_seconds": 0.3}})
    folder = server.data / "artifacts"
    async with connect(server) as stub:
        made = (await stub.Generate(on_acceptance(image_request()))).generation
        folder.rename(folder.with_name("elsewhere"))
        await wait_health(stub, pb.SERVING_STATUS_NOT_SERVING)
        refused = await refusal(stub.Generate(image_request()))
        assert refused.code is grpc.StatusCode.UNAVAILABLE
        assert str(folder) not in refused.message
        folder.with_name("elsewhere").rename(folder)
        (ended,) = await wait_ended(stub, [made.id])
        assert ended.state == State.STATE_SUCCEEDED


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
