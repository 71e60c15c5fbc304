"""What every store must do after a crash with what was running. A part of the suite in `conformance`."""

from __future__ import annotations

import asyncio

import pytest

from atelier.v1.generation_pb2 import State
from atelier_server.store.protocol import Claim, Event, Query, Store
from tests.store.conformance import Opener, submission, succeeded

ENGINES = ("sketch", "other")


class IsolationConformance:
    """Work that a crash interrupted runs alone, and only what crashes the server alone is given up."""

    async def test_what_a_crash_interrupted_runs_alone(self, opener: Opener) -> None:
        """One after the other, whatever its engine; what was not running waits meanwhile."""
        store = await _crash(await opener(), opener)
        new = (await store.submit(submission(engine="sketch"))).generation.id
        claiming = [asyncio.create_task(store.claim(engine)) for engine in (*ENGINES, "sketch")]
        for _ in ENGINES:
            suspect = await _next_claim(claiming)
            await _let_run()
            assert not any(claim.done() for claim in claiming)
            assert suspect.generation.id != new
            assert suspect.attempt == 2
            await store.finish(suspect, succeeded(suspect), Event())
        assert (await _next_claim(claiming)).generation.id == new

    async def test_a_suspect_waits_for_what_runs_and_nothing_overtakes_it(
        self, opener: Opener
    ) -> None:
        """A cancelled one is waited for no more."""
        store = await _crash(await opener(), opener)
        first = await store.claim(ENGINES[0])
        claiming = [asyncio.create_task(store.claim(ENGINES[1]))]
        await _let_run()
        query = Query(caller="ada", limit=1, states=[State.STATE_QUEUED])
        (ahead,) = (await store.list(query)).generations
        new = (await store.submit(submission(engine="third"))).generation.id
        claiming.append(asyncio.create_task(store.claim("third")))
        await _let_run()
        assert not any(claim.done() for claim in claiming)
        await store.cancel("ada", ahead.id)
        await store.finish(first, succeeded(first), Event())
        assert (await _next_claim(claiming)).generation.id == new
        for claim in claiming:
            claim.cancel()
        await asyncio.gather(*claiming, return_exceptions=True)

    async def test_only_what_crashes_the_server_alone_is_given_up(self, opener: Opener) -> None:
        """Two are running at each crash but the last; the one that runs alone then is to blame."""
        store = await opener(max_attempts=1)
        ids = [(await store.submit(submission(engine=engine))).generation.id for engine in ENGINES]
        for engine in ENGINES:
            await store.claim(engine)
        store = await _reopen(store, opener, max_attempts=1)
        states = [(await store.get("ada", known)).state for known in ids]
        assert states == [State.STATE_QUEUED] * 2
        await store.claim(ENGINES[0])
        store = await _reopen(store, opener, max_attempts=1)
        lethal, innocent = [await store.get("ada", known) for known in ids]
        assert (lethal.state, lethal.failure.reason) == (State.STATE_FAILED, "POISONED")
        assert innocent.state == State.STATE_QUEUED
        assert (await store.claim(ENGINES[1])).generation.id == innocent.id

    @pytest.mark.parametrize(("max_attempts", "together"), [(3, True), (2, False)])
    async def test_jobs_at_remote_services_run_beside_others_until_their_last_attempt(
        self,
        opener: Opener,
        max_attempts: int,
        together: bool,  # noqa: FBT001 (a column of the table)
    ) -> None:
        """Waiting for their turn would waste what was paid for; but a crash by one of them is found in the end."""
        store = await opener(max_attempts=max_attempts)
        for engine in ENGINES:
            await store.submit(submission(engine=engine))
            await store.save_remote_handle(await store.claim(engine), f"job at {engine}")
        store = await _reopen(store, opener, max_attempts=max_attempts)
        assert (await store.claim(ENGINES[0])).remote_handle
        second = asyncio.create_task(store.claim(ENGINES[1]))
        await _let_run()
        assert second.done() is together
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


async def _crash(store: Store, opener: Opener) -> Store:
    """The store after a crash in which a generation of each engine was running."""
    for engine in ENGINES:
        await store.submit(submission(engine=engine))
        await store.claim(engine)
    return await _reopen(store, opener)


async def _reopen(store: Store, opener: Opener, *, max_attempts: int = 3) -> Store:
    await store.close()
    return await opener(max_attempts=max_attempts)


async def _next_claim(claiming: list[asyncio.Task[Claim]]) -> Claim:
    """The claim of the call that returns first, which is taken out of the list."""
    done, _ = await asyncio.wait(claiming, return_when=asyncio.FIRST_COMPLETED)
    (claim,) = done
    claiming.remove(claim)
    return claim.result()


async def _let_run() -> None:
    """Time for calls that could return to do so; with too little of it, a fault would be missed, not invented."""
    await asyncio.sleep(0.1)
