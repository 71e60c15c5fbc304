"""Tenants see only their own; what is another's is as if it did not exist."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import RunningServer, StartServer, launch
from tests.server.calls import (
    Refusal,
    Stub,
    image_request,
    on_acceptance,
    read,
    refusal,
    slow_request,
)
from tests.server.test_auth import bearer, make_key

Metadata: TypeAlias = tuple[tuple[str, str], ...]
Attempt: TypeAlias = Callable[[Stub, str, Metadata], Awaitable[object]]
PNG = io.BytesIO()
Image.new("RGB", (64, 64), "red").save(PNG, "PNG")
CACHE = {"type": "sketch", "result_cache_bytes": 10_000_000}


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningServer, Metadata, Metadata]]:
    """A server with two tenants, red and blue, and the keys of both."""
    folder = tmp_path_factory.mktemp("tenants")
    keys = folder / "keys.json"
    red, blue = (bearer(make_key(keys, tenant=tenant)) for tenant in ("red", "blue"))
    running = launch(
        folder,
        auth={"keys": {"file": str(keys)}},
        engines={
            "sketch": {"type": "sketch", "concurrency": 4},
            "apart": CACHE,
            "common": {**CACHE, "share_result_cache": True},
        },
    )
    yield running, red, blue
    running.kill()


@pytest.fixture
async def tenants(
    shared: tuple[RunningServer, Metadata, Metadata],
) -> AsyncIterator[tuple[Stub, Metadata, Metadata]]:
    """The calls, and the keys of both."""
    server, red, blue = shared
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel), red, blue


def other_than(known: str) -> str:
    """An id of the same form, of nothing."""
    return known[:-3] + ("000" if known[-3:] != "000" else "111")


def without(found: Refusal, name: str) -> Refusal:
    """The error without the id that the call named."""
    fields = {field: text.replace(name, "ID") for field, text in found.fields.items()}
    return replace(found, message=found.message.replace(name, "ID"), fields=fields)


async def get(stub: Stub, name: str, metadata: Metadata) -> None:
    """Ask for a generation."""
    await stub.GetGeneration(pb.GetGenerationRequest(generation_id=name), metadata=metadata)


async def cancel(stub: Stub, name: str, metadata: Metadata) -> None:
    """Cancel a generation."""
    await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=name), metadata=metadata)


async def follow(stub: Stub, name: str, metadata: Metadata) -> None:
    """Follow a generation."""
    request = pb.StreamProgressRequest(generation_id=name)
    async for _ in stub.StreamProgress(request, metadata=metadata):
        pass


async def download(stub: Stub, name: str, metadata: Metadata) -> None:
    """Read an artifact."""
    request = pb.DownloadArtifactRequest(artifact_id=name)
    async for _ in stub.DownloadArtifact(request, metadata=metadata):
        pass


async def use(stub: Stub, name: str, metadata: Metadata) -> None:
    """Begin with an artifact."""
    task = {"init_image": MediaSource(artifact_id=name)}
    await stub.Generate(image_request(task=task), metadata=metadata)


async def plan(stub: Stub, name: str, metadata: Metadata) -> None:
    """Ask what would become of it."""
    task = {"init_image": MediaSource(artifact_id=name)}
    await stub.PlanGeneration(
        pb.PlanGenerationRequest(generate=image_request(task=task)), metadata=metadata
    )


@pytest.mark.parametrize("attempt", [get, cancel, follow])
async def test_a_generation_of_another_tenant_does_not_exist(
    tenants: tuple[Stub, Metadata, Metadata], attempt: Attempt
) -> None:
    """Code, text and details are those of an id that nothing has; the generation goes on."""
    stub, red, blue = tenants
    made = await stub.Generate(on_acceptance(slow_request()), metadata=red)
    name = made.generation.id
    found = [
        without(await refusal(attempt(stub, one, blue)), one) for one in (name, other_than(name))
    ]
    assert found[0] == found[1]
    assert found[0].reason == "NOT_FOUND"
    await get(stub, name, red)
    seen = await stub.GetGeneration(pb.GetGenerationRequest(generation_id=name), metadata=red)
    assert seen.generation.state in {State.STATE_QUEUED, State.STATE_RUNNING}
    await cancel(stub, name, red)


@pytest.mark.parametrize("attempt", [download, use, plan])
async def test_an_artifact_of_another_tenant_does_not_exist(
    tenants: tuple[Stub, Metadata, Metadata], attempt: Attempt
) -> None:
    """Outputs and uploads alike; their owner reads them."""
    stub, red, blue = tenants
    made = await stub.Generate(image_request(), metadata=red)

    async def parts() -> AsyncIterator[pb.UploadArtifactRequest]:
        yield pb.UploadArtifactRequest(header=UploadHeader(media_type="image/png"))
        yield pb.UploadArtifactRequest(chunk=PNG.getvalue())

    uploaded = await stub.UploadArtifact(parts(), metadata=red)
    for name in (made.generation.outputs[0].artifact.id, uploaded.artifact.id):
        found = [
            without(await refusal(attempt(stub, one, blue)), one)
            for one in (name, other_than(name))
        ]
        assert found[0] == found[1]
        assert "ID" in found[0].message
        await attempt(stub, name, red)


async def test_a_list_has_only_ones_own(tenants: tuple[Stub, Metadata, Metadata]) -> None:
    """Also from the middle of another's list on."""
    stub, red, blue = tenants
    mine = [(await stub.Generate(image_request(), metadata=blue)).generation.id]
    for _ in range(2):
        await stub.Generate(image_request(), metadata=red)
    page = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=1), metadata=red)
    listed = await stub.ListGenerations(pb.ListGenerationsRequest(), metadata=blue)
    assert set(mine) <= {generation.id for generation in listed.generations}
    request = pb.ListGenerationsRequest(page_token=page.next_page_token)
    rest = await stub.ListGenerations(request, metadata=blue)
    theirs = {
        generation.id
        for generation in (
            await stub.ListGenerations(pb.ListGenerationsRequest(), metadata=red)
        ).generations
    }
    assert not theirs & {generation.id for generation in (*listed.generations, *rest.generations)}


async def test_request_ids_are_ones_own(tenants: tuple[Stub, Metadata, Metadata]) -> None:
    """The same id is another generation for each, also for another task: nobody learns that it is in use."""
    stub, red, blue = tenants
    first = await stub.Generate(image_request("a", request_id="same"), metadata=red)
    second = await stub.Generate(image_request("b", request_id="same"), metadata=blue)
    assert first.generation.id != second.generation.id
    again = await stub.Generate(image_request("a", request_id="same"), metadata=red)
    assert again.generation.id == first.generation.id


async def test_cached_results_are_ones_own(tenants: tuple[Stub, Metadata, Metadata]) -> None:
    """Unless the engine's section says that they are shared."""
    stub, red, blue = tenants

    async def make(engine: str, metadata: Metadata) -> Generation:
        request = image_request(engine=engine, task={"seed": 7})
        return (await stub.Generate(request, metadata=metadata)).generation

    for engine, expected in (("apart", [False, False, True]), ("common", [False, True, True])):
        made = [await make(engine, metadata) for metadata in (red, blue, blue)]
        assert [one.receipt.cached for one in made] == expected


async def test_errors_name_nothing_of_another_tenant(
    tenants: tuple[Stub, Metadata, Metadata],
) -> None:
    """An attached stream that is refused has no generation in its details."""
    stub, red, blue = tenants
    made = await stub.Generate(image_request(), metadata=red)
    request = pb.StreamProgressRequest(generation_id=made.generation.id)
    with pytest.raises(aio.AioRpcError) as failed:
        async for _ in stub.StreamProgress(request, metadata=blue):
            pass
    assert read(failed.value).metadata == {}


async def test_admins_see_who_asked(tmp_path: Path, start_server: StartServer) -> None:
    """In looked-up records of their own tenant; whoever is no admin does not, and other tenants see no record."""
    keys = tmp_path / "keys.json"
    make = partial(make_key, keys)
    asking, admin = bearer(make(scope="generate,read")), bearer(make(scope="read,admin"))
    other = bearer(make(scope="read,admin", tenant="blue"))
    server = start_server(auth={"keys": {"file": str(keys)}})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        made = (await stub.Generate(image_request(), metadata=asking)).generation
        assert made.subject == ""
        assert made.receipt.cost_units == pytest.approx(64 * 64 * 4 / 1e6)
        get, find = pb.GetGenerationRequest(generation_id=made.id), pb.ListGenerationsRequest()
        subject = asking[0][1].removeprefix("Bearer ").partition(".")[0]
        for caller, expected in ((asking, ""), (admin, subject)):
            assert (await stub.GetGeneration(get, metadata=caller)).generation.subject == expected
            (listed,) = (await stub.ListGenerations(find, metadata=caller)).generations
            assert listed.subject == expected
        assert (await refusal(stub.GetGeneration(get, metadata=other))).reason == "NOT_FOUND"
        assert not (await stub.ListGenerations(find, metadata=other)).generations
