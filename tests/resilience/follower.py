"""Follows generations across restarts of their server, and lists what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from tests.conftest import RunningServer
from tests.server.calls import Stub

Connect = Callable[[RunningServer], AbstractAsyncContextManager[Stub]]
"""Opens a connection to a server that shares nothing with others."""

ENDED = frozenset({State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELLED})


@dataclass(slots=True)
class Follower:
    """Follows one generation; each call continues after the last event of the one before."""

    generation_id: str
    events: list[pb.StreamProgressResponse] = field(default_factory=list)

    async def follow(self, stub: Stub) -> None:
        """Wait for the server, then collect events until the generation ends or the server is gone."""
        after = self.events[-1].sequence if self.events else 0
        request = pb.StreamProgressRequest(generation_id=self.generation_id, after_sequence=after)
        try:
            async for event in stub.StreamProgress(request, wait_for_ready=True):
                self.events.append(event)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise

    @property
    def sequences(self) -> list[int]:
        """The numbers of all events, in the order in which they came."""
        return [event.sequence for event in self.events]

    @property
    def last_state(self) -> State.ValueType:
        """State of the generation in the newest event."""
        return self.events[-1].state if self.events else State.STATE_UNSPECIFIED


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once the condition holds; the test's own time limit ends the wait."""
    while not await condition():  # noqa: ASYNC110 (the condition is in another process)
        await asyncio.sleep(0.02)


async def list_all(stub: Stub) -> list[Generation]:
    """All generations of the server, page by page."""
    found: list[Generation] = []
    token = ""
    while True:
        request = pb.ListGenerationsRequest(page_size=50, page_token=token)
        page = await stub.ListGenerations(request)
        found += page.generations
        token = page.next_page_token
        if not token:
            return found


async def wait_ended(stub: Stub, ids: Collection[str]) -> list[Generation]:
    """Wait until these have ended; returns every generation there is, with its receipt, which lists leave out."""
    while True:
        found = await list_all(stub)
        ended = {generation.id for generation in found if generation.state in ENDED}
        if ended.issuperset(ids):
            requests = [pb.GetGenerationRequest(generation_id=made.id) for made in found]
            return [(await stub.GetGeneration(request)).generation for request in requests]
        await asyncio.sleep(0.05)


def list_blobs(data: Path) -> set[str]:
    """Names of all files that hold artifacts."""
    return {path.name for path in (data / "artifacts").iterdir() if path.is_file()}


def artifact_ids(generations: Collection[Generation]) -> set[str]:
    """Ids of the artifacts that the generations own."""
    return {output.artifact.id for made in generations for output in made.outputs}
