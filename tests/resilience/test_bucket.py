"""A server whose artifacts are in a bucket, and what becomes of its work while the bucket does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from atelier.v1 import artifact_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.artifacts.bucket_server import SECRET_ACCESS_KEY, BucketServer
from tests.conftest import StartServer
from tests.resilience.follower import Connect, artifact_ids, wait_ended
from tests.resilience.test_disk import read_http, wait_health
from tests.server.calls import Stub, image_request, on_acceptance, refusal

_MIB = 2**20


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[BucketServer]:
    """The real S3-compatible server, started."""
    server = BucketServer(tmp_path / "s3")
    server.start()
    yield server
    server.stop()


def settings(bucket: BucketServer, timeout_seconds: float = 1) -> dict[str, object]:
    """A server that knows within seconds that its bucket is gone."""
    return {
        "engines": {"sketch": {"type": "sketch", "output_bytes": _MIB}},
        "artifacts": {**bucket.settings, "timeout_seconds": timeout_seconds},
    }


async def download(stub: Stub, artifact: artifact_pb2.Artifact) -> bytes:
    """All bytes of an artifact."""
    request = pb.DownloadArtifactRequest(artifact_id=artifact.id)
    return b"".join([answer.chunk async for answer in stub.DownloadArtifact(request)])


def list_objects(bucket: BucketServer) -> set[str]:
    """Ids of the blobs in the bucket."""
    return {path.name for path in (bucket.bucket / "atelier").glob("*")}


async def test_outputs_are_objects_of_the_bucket(
    start_server: StartServer, connect: Connect, bucket: BucketServer
) -> None:
    """And nowhere else; they are read back, and the secret of the key is in no log."""
    server = start_server(**settings(bucket))
    async with connect(server) as stub:
        made = (await stub.Generate(image_request())).generation
        (output,) = made.outputs
        data = await download(stub, output.artifact)
        assert len(data) == output.artifact.size == _MIB
        assert list_objects(bucket) == artifact_ids([made])
    assert not list((server.data / "artifacts").iterdir())
    assert SECRET_ACCESS_KEY not in server.log.read_text()


async def test_a_bucket_that_is_gone_for_a_while_ends_no_generation(
    start_server: StartServer, connect: Connect, bucket: BucketServer
) -> None:
    """What was accepted waits, and succeeds once the bucket answers; new work is refused meanwhile."""
    server = start_server(**settings(bucket))
    async with connect(server) as stub:
        ids = [
            (await stub.Generate(on_acceptance(image_request()))).generation.id for _ in range(3)
        ]
        bucket.stop()
        ids += await _submit_until_refused(stub)
        assert await wait_health(stub, pb.SERVING_STATUS_NOT_SERVING)
        assert read_http(server, "/readyz")[0] == 503
        refused = await refusal(stub.Generate(image_request()))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
        )
        bucket.start()
        found = await wait_ended(stub, ids)
        assert {made.state for made in found} == {State.STATE_SUCCEEDED}
        assert list_objects(bucket) == artifact_ids(found)


@pytest.mark.parametrize("silent", [False, True])
async def test_a_server_starts_while_its_bucket_is_down(
    start_server: StartServer, connect: Connect, bucket: BucketServer, *, silent: bool
) -> None:
    """And listens at once, also where its bucket takes connections and is silent; it is ready when it answers."""
    if silent:
        bucket.freeze()
    else:
        bucket.stop()
    server = start_server(wait=False, **settings(bucket, timeout_seconds=3600 if silent else 1))
    async with connect(server) as stub:
        await stub.Health(pb.HealthRequest(), wait_for_ready=True)
        assert await wait_health(stub, pb.SERVING_STATUS_NOT_SERVING)
        bucket.start()
        await wait_health(stub, pb.SERVING_STATUS_SERVING)
        made = (await stub.Generate(image_request())).generation
        assert made.state == State.STATE_SUCCEEDED


async def test_what_others_keep_in_the_bucket_stays(
    start_server: StartServer, connect: Connect, bucket: BucketServer
) -> None:
    """A start deletes nothing; what an attempt left that was killed goes after a day, as in `delete_orphans`."""
    server = start_server(**settings(bucket))
    async with connect(server) as stub:
        made = (await stub.Generate(image_request())).generation
    server.kill()
    folder = bucket.bucket / "atelier"
    (folder / f"{made.id}-7-0").write_bytes(b"left by an attempt")
    (folder / "notes.txt").write_bytes(b"others")
    restarted = start_server(**settings(bucket))
    assert list_objects(bucket) == artifact_ids([made]) | {f"{made.id}-7-0", "notes.txt"}
    assert restarted.terminate() == 0


async def _submit_until_refused(stub: Stub) -> list[str]:
    """Submit until the server knows that it cannot store; returns what it accepted."""
    accepted: list[str] = []
    while True:
        try:
            made = await stub.Generate(on_acceptance(image_request()))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return accepted
        accepted.append(made.generation.id)
        await asyncio.sleep(0.05)  # the queue is not to fill up meanwhile
