"""What every store does with the events of a generation. A store's test module subclasses EventConformance too."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from atelier.v1.generation_pb2 import State
from atelier_server.store.protocol import ClaimLostError, Event, Store
from tests.store.conformance import log_of, submission, succeeded


class EventConformance:
    """Logs, watchers and queue positions; the fixtures are those of StoreConformance."""

    async def test_the_log_is_numbered_without_gaps_and_ends_with_the_generation(
        self, store: Store
    ) -> None:
        """Sequences count 1, 2, 3; the last event carries the finished generation."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        for step in (1, 2):
            await store.log(claim, [Event(stage="draw", step=step, steps=2)])
        last = Event(stage="draw", step=2, steps=2)
        await store.finish(claim, succeeded(claim, "image"), last)
        events = await log_of(store, generation_id)
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
        assert [event.state for event in events] == [
            State.STATE_QUEUED,
            *[State.STATE_RUNNING] * 3,
            State.STATE_SUCCEEDED,
        ]
        assert {event.generation_id for event in events} == {generation_id}
        assert [event.step for event in events] == [0, 0, 1, 2, 2]
        assert events[-1].generation.outputs[0].artifact.id == "image"
        assert events[-1].progress == 1.0
        assert not any(event.HasField("generation") for event in events[:-1])

    async def test_many_watchers_see_the_same_from_wherever_they_begin(self, store: Store) -> None:
        """Watchers that come before, during and after see every event once and in order."""
        generation_id = (await store.submit(submission())).generation.id
        early = [asyncio.create_task(log_of(store, generation_id)) for _ in range(5)]
        claim = await store.claim("sketch")
        await store.log(claim, [Event(step=1)])
        midway = asyncio.create_task(log_of(store, generation_id, after=2))
        for step in range(2, 101):
            await store.log(claim, [Event(step=step)])
        await store.finish(claim, succeeded(claim), Event())
        whole = await log_of(store, generation_id)
        assert [event.sequence for event in whole] == list(range(1, 104))
        for watcher in early:
            assert [event.sequence for event in await watcher] == list(range(1, 104))
        assert [event.sequence for event in await midway] == list(range(3, 104))
        assert await log_of(store, generation_id, after=103) == []

    async def test_the_end_logs_what_was_kept_back(self, store: Store) -> None:
        """Before its own event, in order; a watcher that waits receives them, and a void claim logs none."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        assert not store.is_watched(generation_id)
        watching = asyncio.create_task(log_of(store, generation_id))
        await asyncio.sleep(0)
        assert store.is_watched(generation_id)
        kept = [Event(step=1), Event(step=2)]
        await store.finish(claim, succeeded(claim), Event(step=2), unlogged=kept)
        log = await watching
        assert [event.step for event in log] == [0, 0, 1, 2, 2]
        assert [event.sequence for event in log] == list(range(1, 6))
        assert {event.state for event in log[2:4]} == {State.STATE_RUNNING}
        assert await log_of(store, generation_id) == log
        with pytest.raises(ClaimLostError):
            await store.finish(claim, succeeded(claim), Event(), unlogged=[Event(step=3)])
        assert await log_of(store, generation_id) == log

    async def test_a_slow_watcher_misses_nothing(self, store: Store) -> None:
        """A watcher that is far behind reads the log."""
        generation_id = (await store.submit(submission())).generation.id
        seen = []
        async with aclosing(store.watch(generation_id, 0)) as events:
            seen.append((await anext(events)).sequence)
            claim = await store.claim("sketch")
            for step in range(200):
                await store.log(claim, [Event(step=step)])
            await store.finish(claim, succeeded(claim), Event())
            seen += [event.sequence async for event in events]
        assert seen == list(range(1, 204))

    async def test_a_waiting_generation_reports_its_queue_position(self, store: Store) -> None:
        """The first event says how many are ahead; watchers get an event whenever it moves up."""
        ids = [(await store.submit(submission())).generation.id for _ in range(3)]
        async with aclosing(store.watch(ids[2], 0)) as events:
            places = [(await anext(events)).queue_position]
            for _ in range(2):
                claim = await store.claim("sketch")
                places.append((await anext(events)).queue_position)
                await store.finish(claim, succeeded(claim), Event())
        assert places == [2, 1, 0]

    async def test_a_dispatched_generation_is_in_no_queue(self, store: Store) -> None:
        """Waiting for it ends with the claim, and at once after it, until it is requeued."""
        generation_id = (await store.submit(submission())).generation.id
        waiting = asyncio.ensure_future(store.wait_dispatched("ada", generation_id))
        await asyncio.sleep(0)
        assert not waiting.done()
        claim = await store.claim("sketch")
        await waiting
        await store.wait_dispatched("ada", generation_id)
        await store.release(claim)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.wait_dispatched("ada", generation_id), 0.01)

    async def test_waiting_for_the_end_returns_the_finished_generation(self, store: Store) -> None:
        """Both a call that waits already and one that comes later get it."""
        generation_id = (await store.submit(submission())).generation.id
        waiting = asyncio.create_task(store.wait_ended("ada", generation_id))
        claim = await store.claim("sketch")
        await store.log(claim, [Event(step=1)])
        await store.finish(claim, succeeded(claim), Event())
        assert (await waiting).state == State.STATE_SUCCEEDED
        assert (await store.wait_ended("ada", generation_id)).HasField("expire_time")
