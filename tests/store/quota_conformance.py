"""What every store must do about quotas; part of the suite in `conformance`."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import Generation
from atelier_server.clock import steady_time
from atelier_server.errors import QueueFullError, TenantQuotaError
from atelier_server.store.protocol import Event, Query, Store
from atelier_server.store.quotas import Allowance, Share
from tests.store.conformance import Opener, submission, succeeded, sweep


async def accept(store: Store, allowance: Allowance, cost: float = 1.0, engine: str = "a") -> None:
    """Submit a generation of ada."""
    share = Share(cost=cost)
    await store.submit(submission(allowance=allowance, share=share, engine=engine))


async def refused(store: Store, allowance: Allowance, message: str, cost: float = 1.0) -> float:
    """Have a generation of ada refused with such a message; seconds to wait, -1 for ever."""
    with pytest.raises(TenantQuotaError, match=re.escape(message)) as caught:
        await accept(store, allowance, cost)
    seconds = caught.value.retry_after_seconds
    return -1.0 if seconds is None else seconds


class QuotaConformance:
    """Part of the suite of the protocol; needs the fixtures of StoreConformance."""

    async def test_numbers_are_limited_over_all_engines(self, opener: Opener) -> None:
        """What waits, and what waits or runs; a restart does not change what counts."""
        store = await opener()
        queued, unfinished = Allowance(max_queued=2), Allowance(max_unfinished=3)
        await accept(store, queued)
        await accept(store, queued, engine="b")
        assert await refused(store, queued, "'ada' may have 2 generations waiting; wait") == 1.0
        claim = await store.claim("a")
        await accept(store, queued)
        text = "'ada' may have 3 generations waiting or running"
        assert await refused(store, unfinished, text) == 1.0
        await store.close()
        store = await opener()
        await refused(store, unfinished, text)
        claim = await store.claim("a")
        await refused(store, unfinished, text)
        await store.finish(claim, succeeded(claim), Event())
        await accept(store, unfinished)
        await store.submit(submission(caller="bob", allowance=Allowance(max_unfinished=1)))

    async def test_cost_units_are_limited(self, store: Store) -> None:
        """Those that wait, and those of a day; what was cancelled before it began costs nothing."""
        queued, daily = Allowance(max_queued_cost=10), Allowance(daily_cost=10)
        await accept(store, queued, 6)
        text = "'ada' may have 10 cost units that wait; this task has 5"
        assert await refused(store, queued, text, 5) == 1.0
        assert await refused(store, queued, "has 11: make it smaller", 11) == -1.0
        claim = await store.claim("a")
        await accept(store, queued, 5)
        text = "'ada' may use 10 cost units a day; this task has 1; the next day begins at 00:00 UTC, in "
        assert 0 < await refused(store, daily, text) <= 300
        assert await refused(store, daily, "has 11: make it smaller", 11) == -1.0
        await store.clear_queue("a", "")
        await accept(store, daily, 4)
        await store.finish(claim, succeeded(claim), Event())
        await refused(store, daily, text)

    @pytest.mark.parametrize("way", ["cancel", "clear", "time out", "move"])
    async def test_what_was_given_back_and_ends_in_the_queue_has_cost_what_it_has(
        self, store: Store, way: str
    ) -> None:
        """Once, however often it ran; what an engine has not begun costs nothing there."""
        daily = Allowance(daily_cost=10)
        deadline = steady_time() + 1000
        share = Share(cost=6)
        await store.submit(submission(engine="a", deadline=deadline, allowance=daily, share=share))
        for _ in range(2):
            await store.release(await store.claim("a"), started=Timestamp(seconds=1))
        (generation,) = (await store.list(Query(caller="ada", limit=2))).generations
        match way:
            case "cancel":
                await store.cancel("ada", generation.id)
            case "clear":
                await store.clear_queue("a", "")
            case "time out":
                await sweep(store, deadline + 1)
            case _:
                moved = Generation()
                moved.CopyFrom(generation)
                moved.engine = "b"
                assert await store.move(generation, moved, b"task")
                await store.clear_queue("b", "")
        assert (await store.find_usage("ada", daily)).used_today == 6

    async def test_money_is_limited(self, store: Store) -> None:
        """By what has ended today, on all engines."""
        allowance = Allowance(daily_budget=2.5)
        for engine in ("a", "b"):
            await accept(store, allowance, engine=engine)
            claim = await store.claim(engine)
            ended = succeeded(claim)
            ended.receipt.cost.amount = 1.25
            await store.finish(claim, ended, Event())
        text = "'ada' may spend 2.5 a day, and has; the next day begins at 00:00 UTC, in "
        assert 0 < await refused(store, allowance, text) <= 300
        await store.submit(submission(caller="bob", allowance=allowance))

    async def test_stored_bytes_are_limited(self, store: Store) -> None:
        """Those of uploads and outputs, whenever they were stored; what is deleted counts no more."""
        allowance = Allowance(max_stored_bytes=13)
        expiring = Timestamp(seconds=int(time.time()) + 250)
        await store.add_artifact("ada", Artifact(id="upload", size=10, expire_time=expiring))
        seconds = await refused(store, Allowance(max_stored_bytes=1), "may store 1 byte")
        assert 60 < seconds <= 250
        await store.add_artifact("bob", Artifact(id="other", size=50))
        await accept(store, allowance)
        claim = await store.claim("a")
        await store.finish(claim, succeeded(claim, "output"), Event())  # 3 bytes
        text = "'ada' may store 13 bytes, and has; wait until artifacts expire"
        assert 0 < await refused(store, allowance, text) <= 60  # seconds for which they are kept
        await store.delete_artifacts(["upload"])
        await accept(store, allowance)
        assert (await store.find_usage("ada", allowance)).stored_bytes == 3

    async def test_what_is_stored_side_by_side_is_limited(self, store: Store) -> None:
        """One artifact at most is beyond the limit; without one there is none."""
        allowance = Allowance(max_stored_bytes=13)
        uploads = [Artifact(id=f"upload{number}", size=10) for number in range(5)]
        stored = await asyncio.gather(
            *(store.add_artifact("ada", upload, allowance=allowance) for upload in uploads),
            return_exceptions=True,
        )
        assert [type(error) for error in stored] == [*[type(None)] * 2, *[TenantQuotaError] * 3]
        assert (await store.find_usage("ada", allowance)).stored_bytes == 20
        await store.add_artifact("ada", uploads[-1])

    async def test_nobody_fills_a_queue_for_others(self, store: Store) -> None:
        """Who has nothing in a full queue may add one, and is then bound by its limit as the others are."""
        for _ in range(2):
            await store.submit(submission(queue_limit=2))
        assert await store.queue_depth("sketch", "bob") == 0
        await store.submit(submission(caller="bob", queue_limit=2))
        for caller in ("ada", "bob"):
            with pytest.raises(QueueFullError):
                await store.submit(submission(caller=caller, queue_limit=2))
            assert await store.queue_depth("sketch", caller) == 3
