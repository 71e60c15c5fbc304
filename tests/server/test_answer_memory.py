"""What callers ask for and do not read is bounded, for each tenant, each connection and in all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from google.protobuf.message import Message
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.errors import AnswerMemoryError
from atelier_server.rpc.answer_memory import AnswerMemory
from atelier_server.shared_memory import Held
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, eventually, image_request
from tests.server.mute_connection import connect_mutely
from tests.server.test_artifacts import CHUNK, download, upload
from tests.server.test_auth import bearer, make_key
from tests.server.test_metrics import key, samples
from tests.server.test_request_memory import peak_bytes, settings

UNREAD = 60
GENERATIONS = 40
LONG = "a lighthouse " * 600
PAGE = pb.ListGenerationsRequest(page_size=GENERATIONS)
MOST_GROWTH = 100 * 2**20
"""Of the memory of a server that is asked for 40 MiB, which took three times as much."""
UNIT = 100


async def fill_page(stub: Stub, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    """Make generations whose page has 0.7 MB."""
    request = image_request(LONG, task={"negative_prompt": LONG})
    await asyncio.gather(*(stub.Generate(request, metadata=metadata) for _ in range(GENERATIONS)))


def count_answered(server: RunningServer, method: str) -> float:
    """How many calls of the method have an answer."""
    call = {"grpc_service": "atelier.v1.GenerationService", "grpc_method": method}
    return samples(server).get(key("grpc_server_handled_total", grpc_code="OK", **call), 0)


async def test_answers_that_nobody_reads_take_little_memory(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Who reads is answered meanwhile: other tenants, and other connections of the same one."""
    keys = tmp_path / "keys.json"
    red, blue = (bearer(make_key(keys, tenant=tenant)) for tenant in ("red", "blue"))
    server = start_server(limits={"max_sending_bytes": 2**25}, **settings(tmp_path))
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for caller in (red, blue):
            await fill_page(stub, caller)
        await stub.ListGenerations(PAGE, metadata=red)
        before = peak_bytes(server)
        with connect_mutely(server) as mute:
            for _ in range(UNREAD):
                mute.ask("ListGenerations", PAGE, red)
            await eventually(lambda: count_answered(server, "ListGenerations") > 1)
            for caller in (
                red,
                blue,
            ):  # the tenant's own page is listed after those that came before
                listed = await stub.ListGenerations(PAGE, metadata=caller)
                assert len(listed.generations) == GENERATIONS
            assert peak_bytes(server) - before < MOST_GROWTH
            assert count_answered(server, "ListGenerations") < UNREAD
    assert server.log_lines() == []


@pytest.mark.parametrize("method", ["ListGenerations", "GetGeneration", "DownloadArtifact"])
async def test_who_hangs_up_makes_room(start_server: StartServer, method: str) -> None:
    """An answer holds memory until its caller has taken it, or is gone."""
    server = start_server(limits={"max_sending_bytes": 2**16})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await fill_page(stub)
        large = image_request(task={"width": 512, "height": 512})
        generation = (await stub.Generate(large)).generation
        artifact = await upload(stub, bytes(2 * CHUNK))
        requests: dict[str, Message] = {
            "ListGenerations": PAGE,
            "GetGeneration": pb.GetGenerationRequest(
                generation_id=generation.id, inline_outputs=True
            ),
            "DownloadArtifact": pb.DownloadArtifactRequest(artifact_id=artifact.id),
        }
        before = read_bytes(server)
        with connect_mutely(server) as mute:
            mute.ask(method, requests[method])
            await eventually(
                lambda: (
                    count_answered(server, method) > 0 or read_bytes(server) - before > 2 * CHUNK
                )  # of a stream, whose call does not end
            )
            small = pb.GetGenerationRequest(generation_id=generation.id)
            for _ in range(20):
                await stub.GetGeneration(small)
            waiting = asyncio.create_task(download(stub, artifact.id))
            for _ in range(50):
                await stub.GetGeneration(small)
            assert not waiting.done()
        _, chunks = await waiting
        assert sum(map(len, chunks)) == 2 * CHUNK


async def test_a_download_is_read_as_fast_as_it_is_taken(start_server: StartServer) -> None:
    """Of what nobody takes, no more than two chunks."""
    server, size = start_server(), 16 * CHUNK
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        artifact = await upload(stub, bytes(size))
        before = read_bytes(server)
        with connect_mutely(server) as mute:
            for _ in range(10):
                mute.ask("DownloadArtifact", pb.DownloadArtifactRequest(artifact_id=artifact.id))
            await eventually(lambda: read_bytes(server) - before > CHUNK)
            await download(stub, artifact.id)
            assert read_bytes(server) - before < 2 * size + 10 * 3 * CHUNK


def read_bytes(server: RunningServer) -> int:
    """What the server has read so far, from files and connections."""
    line, *_ = Path(f"/proc/{server.process.pid}/io").read_text().splitlines()
    return int(line.removeprefix("rchar: "))


def make_memory(units: float, wait_seconds: float = 300) -> AnswerMemory:
    """Memory for so many answers."""
    return AnswerMemory(round(units * UNIT), wait_seconds=wait_seconds)


async def fill(memory: AnswerMemory, tenant: str, peer: str) -> list[Held]:
    """As many answers as find room at once."""
    found = []
    while True:
        found.append(memory.hold(tenant, peer))
        try:
            async with asyncio.timeout(0):
                await found[-1].take(UNIT)
        except TimeoutError:
            return found[:-1]


async def test_each_tenant_and_connection_finds_its_part() -> None:
    """A tenant half, a connection a quarter; callers on a Unix socket share what their tenant has."""
    memory = make_memory(16)
    assert [len(await fill(memory, "red", f"ipv4:{port}")) for port in range(3)] == [4, 4, 0]
    assert len(await fill(memory, "blue", "unix:")) == 8
    assert await fill(memory, "green", "ipv4:9") == []


async def test_who_waits_too_long_is_told_to_try_again() -> None:
    """And keeps nothing from others."""
    memory = make_memory(4, wait_seconds=0.01)
    (first,) = await fill(memory, "red", "ipv4:1")
    with pytest.raises(AnswerMemoryError, match="try again") as refused:
        await memory.hold("red", "ipv4:1").take(UNIT)
    assert refused.value.retry_after_seconds == 1
    first.shrink(0)
    assert len(await fill(memory, "red", "ipv4:1")) == 1


async def test_tenants_take_turns_for_what_is_given_back() -> None:
    """One answer each, however many of one wait."""
    memory, order = make_memory(1), list[str]()
    first = memory.hold("green", "ipv4:1")
    await first.take(UNIT)

    async def wait(tenant: str) -> None:
        held = memory.hold(tenant, f"ipv4:{tenant}")
        await held.take(UNIT)
        order.append(tenant)
        held.shrink(0)

    waiting = [asyncio.create_task(wait(tenant)) for tenant in ("red", "red", "red", "blue")]
    await asyncio.sleep(0)
    first.shrink(0)
    await asyncio.gather(*waiting)
    assert order == ["red", "blue", "red", "red"]
