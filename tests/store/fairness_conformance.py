"""What every store must do for several callers that wait for one engine; part of the suite in `conformance`."""

from __future__ import annotations

import asyncio

from atelier.v1.generation_pb2 import STATE_QUEUED as QUEUED
from atelier_server.store.protocol import Event, Store
from atelier_server.store.quotas import Share
from tests.store.conformance import Opener, log_of, submission, succeeded


async def accept(store: Store, caller: str, count: int, cost: float = 1, weight: float = 1) -> None:
    """Submit so many generations of the caller, named after it."""
    share = Share(cost=cost, weight=weight)
    for _ in range(count):
        await store.submit(submission(caller=caller, share=share, queue_limit=10**6))


async def serve(store: Store, count: int) -> str:
    """Claim so many, and end them; the first letters of the callers, in order."""
    served = ""
    for _ in range(count):
        claim = await store.claim("sketch")
        served += claim.caller[0]
        await store.finish(claim, succeeded(claim), Event())
    return served


class FairnessConformance:
    """Part of the suite of the protocol; needs the fixtures of StoreConformance."""

    async def test_who_comes_late_does_not_wait_behind_a_long_queue(self, store: Store) -> None:
        """Whoever has much waiting gets its turn again after that; the place that is told is the one that it has."""
        await accept(store, "ada", 50)
        assert await serve(store, 5) == "aaaaa"
        late = (await store.submit(submission(caller="bob"))).generation.id
        assert await serve(store, 4) == "baaa"
        assert (await log_of(store, late))[0].queue_position == 0

    async def test_callers_get_equal_amounts_of_work(self, store: Store) -> None:
        """Not equal numbers: one large generation is worth four small ones."""
        await accept(store, "ada", 10, cost=4)
        await accept(store, "bob", 40, cost=1)
        served = await serve(store, 25)
        assert (served.count("a"), served.count("b")) == (5, 20)
        assert "bbbbbb" not in served

    async def test_weights_divide_the_work(self, store: Store) -> None:
        """Three times the weight is three times the work."""
        await accept(store, "ada", 40, weight=3)
        await accept(store, "bob", 40, weight=1)
        served = await serve(store, 24)
        assert (served.count("a"), served.count("b")) == (18, 6)

    async def test_unused_shares_are_not_saved_up(self, store: Store) -> None:
        """Who was away gets as much from then on as the others, whatever they were given meanwhile."""
        await accept(store, "ada", 60)
        await accept(store, "bob", 1)
        await serve(store, 40)
        await accept(store, "bob", 20)
        served = await serve(store, 20)
        assert abs(served.count("a") - served.count("b")) <= 1

    async def test_what_is_given_back_is_not_charged(self, opener: Opener) -> None:
        """By a worker, or by a restart: it is claimed again first, and its caller gets as much as before."""
        store = await opener()
        await accept(store, "ada", 20)
        await accept(store, "bob", 20)
        assert await serve(store, 4) in {"abab", "baba"}
        for _ in range(5):
            claim = await store.claim("sketch")
            await store.release(claim)
            again = await store.claim("sketch")
            assert again.generation.id == claim.generation.id
            await store.release(again)
        await store.claim("sketch")
        await store.close()
        store = await opener()
        served = await serve(store, 10)
        assert (served.count("a"), served.count("b")) == (5, 5)

    async def test_a_fallback_is_charged_where_it_ran(self, store: Store) -> None:
        """The failed attempt counts for its engine; the other engine's queue has it by its caller's turn there."""
        for engine in ("sketch", "other"):
            for caller in ("ada", "ada", "bob", "bob"):
                await store.submit(submission(caller=caller, engine=engine))
        claim = await store.claim("sketch")
        claim.generation.engine = "other"
        await store.requeue_on_engine(claim, claim.generation, b"task")
        assert (await store.claim("sketch")).caller != claim.caller
        callers = [(await store.claim("other")).caller for _ in range(5)]
        assert callers.count(claim.caller) == 3
        assert callers[0] != callers[1]

    async def test_positions_follow_the_turns(self, store: Store) -> None:
        """What is told, at first and with every claim, is how many are claimed before; far off, about that."""
        await accept(store, "ada", 60)
        await accept(store, "cy", 2)
        own = [(await store.submit(submission(caller="bob"))).generation.id for _ in range(20)]
        watching = asyncio.create_task(log_of(store, own[2]))
        while not store.is_watched(own[2]):  # noqa: ASYNC110 (nothing tells when it begins)
            await asyncio.sleep(0)
        served = await serve(store, 82)
        told = [(await log_of(store, name))[0].queue_position for name in own]
        true = [place for place, caller in enumerate(served) if caller == "b"]
        assert told[:4] == true[:4]
        assert all(abs(one - other) <= 2 for one, other in zip(told, true, strict=True))
        places = [event.queue_position for event in await watching if event.state == QUEUED]
        assert places == list(range(true[2], -1, -1))
