"""What the server has when the siege is over: records, logs of events, outputs, files; and the service's orders."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from tests.resilience.follower import list_all
from tests.server.calls import Stub
from tests.siege.recorder import SeenEvent
from tests.vendors.fal.stand_in import Job, StandIn

_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGeneration:
    """One generation as the server stores it."""

    generation: Generation
    """Its record, without the bytes of its outputs."""
    log: tuple[SeenEvent, ...]
    """All events."""
    output_digests: tuple[str, ...]
    """SHA-256 of the bytes of each output."""
    output_sizes: tuple[int, ...]

    @property
    def request_id(self) -> str:
        """Id of the request in the plan, which is its prompt; its caller may have sent none."""
        return self.generation.image.prompt


async def list_unfinished(stub: Stub) -> list[str]:
    """Ids of at most a page of generations that have not ended."""
    states = [State.STATE_QUEUED, State.STATE_RUNNING]
    page = await stub.ListGenerations(
        pb.ListGenerationsRequest(states=states, page_size=500), wait_for_ready=True
    )
    return [generation.id for generation in page.generations]


async def read_all(
    stub: Stub, promised: Sequence[str]
) -> tuple[Mapping[str, StoredGeneration], tuple[str, ...]]:
    """Every generation that is listed or was promised, by id; and the ids as listed."""
    listed = [generation.id for generation in await list_all(stub)]
    limit = asyncio.Semaphore(_AT_ONCE)

    async def read(generation_id: str) -> StoredGeneration | None:
        async with limit:
            return await _read(stub, generation_id)

    wanted = sorted({*listed, *promised})
    found = await asyncio.gather(*map(read, wanted))
    return {one.generation.id: one for one in found if one is not None}, tuple(listed)


async def _read(stub: Stub, generation_id: str) -> StoredGeneration | None:
    try:
        request = pb.GetGenerationRequest(generation_id=generation_id, inline_outputs=True)
        generation = (await stub.GetGeneration(request)).generation
    except aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
    data = [output.data for output in generation.outputs]
    for output in generation.outputs:
        output.ClearField("data")
    log: list[SeenEvent] = []
    if generation.state in {State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELLED}:
        events = stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation_id))
        log = [SeenEvent.from_message(event) async for event in events]
    return StoredGeneration(
        generation=generation,
        log=tuple(log),
        output_digests=tuple(hashlib.sha256(one).hexdigest() for one in data),
        output_sizes=tuple(map(len, data)),
    )


def digest_files(data: Path) -> Mapping[str, str]:
    """SHA-256 of every file of an artifact, by the file's name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (data / "artifacts").iterdir()
        if path.is_file()  # beside them lies a folder of files to write over
    }


def read_errors(log: Path) -> frozenset[str]:
    """Events that a server has logged as errors; a line that a kill has cut says nothing."""
    found = set()
    for line in log.read_text().splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if entry["level"] == "error":
                found.add(str(entry["event"]))
    return frozenset(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Orders at the remote service for one request."""

    accepted: int
    billed: int
    """Without those that were cancelled in time."""


def count_orders(service: StandIn) -> Mapping[str, Orders]:
    """Orders for images at the remote service, by request id."""
    found: dict[str, list[Job]] = defaultdict(list)
    for job in service.jobs.values():
        found[str(job.body["prompt"])].append(job)
    return {
        request_id: Orders(accepted=len(jobs), billed=sum(not job.cancelled for job in jobs))
        for request_id, jobs in found.items()
    }
