"""How the server watches an engine, and what its budget lets begin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from atelier_engines.capabilities import Capabilities, ImageCapabilities, IntegerRange
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.event import Event, Stage
from atelier_engines.sketch.config import SketchConfig
from atelier_engines.task import Task
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.engines.status import EngineStatuses
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.execution.spending_gate import SpendingGate
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.conformance import submission

_SIZES = IntegerRange(min=64, max=4096, default=512)
_IMAGES = ImageCapabilities(width=_SIZES, height=_SIZES, max_pixels=4096**2)


class Moody:
    """An engine whose checks fail as they are told to."""

    def __init__(self, *delays: float) -> None:
        self.delays = list(delays)

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return Capabilities(description="moody", image=_IMAGES)

    async def start(self) -> None:
        """See Engine.start."""

    async def check(self) -> None:
        """See Engine.check. Says after how many seconds it may work, as long as there are such; then what it lacks."""
        if not self.delays:
            raise ModelMissingError("the weights are gone")
        raise EngineUnavailableError("busy", retry_after_seconds=self.delays.pop(0))

    async def stop(self) -> None:
        """See Engine.stop."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Makes nothing."""
        if task.resume:
            yield Stage(name="submit")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty one."""
    opened = await SqliteStore.open(tmp_path / "atelier.db", max_attempts=3, retention_seconds=60)
    yield opened
    await opened.close()


async def test_a_job_that_was_begun_goes_on_when_the_budget_is_exhausted(
    store: SqliteStore,
) -> None:
    """It is paid already; what was accepted before it waits."""
    settings = EngineSettings(type="sketch", config=SketchConfig(), daily_budget=1.0)
    supervisor = EngineSupervisor("sketch", settings, Moody(), EngineStatuses())
    begun = (await store.submit(submission())).generation.id
    claim = await store.claim("sketch")
    await store.save_remote_handle(claim, "job 1")
    await store.submit(submission())
    await store.release(claim, keep_remote_handle=True)
    supervisor.restore_spending(1.0)
    gate = SpendingGate(supervisor=supervisor, store=store)
    assert (await gate.claim("sketch")).generation.id == begun
    assert await store.queue_depth("sketch") == 1


async def test_an_engine_that_says_no_time_any_more_is_checked_as_usual() -> None:
    """What it had said at its last failure does not hold for the next one."""
    statuses = EngineStatuses()
    settings = EngineSettings(type="sketch", config=SketchConfig())
    supervisor = EngineSupervisor("one", settings, Moody(200.0), statuses)
    supervising = asyncio.ensure_future(supervisor.supervise(30.0))
    try:
        for least, most in ((190, 200), (20, 30)):
            before = supervisor.status.retry_at
            supervisor.check_requested.set()
            while supervisor.status.retry_at == before:  # noqa: ASYNC110 (nothing tells it)
                await asyncio.sleep(0)
            assert least < supervisor.status.retry_at - time.monotonic() <= most
    finally:
        supervising.cancel()
        with suppress(asyncio.CancelledError):
            await supervising
