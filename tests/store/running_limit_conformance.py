"""What every store must do about how many generations of a caller run at once; part of the suite in `conformance`."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from atelier_server.store.protocol import Claim, Event, Store
from tests.store.conformance import Opener, submission, succeeded

ONE = {"ada": 1}.get


async def wait_for_claim(store: Store, engine: str = "sketch") -> asyncio.Task[Claim]:
    """A worker that has found nothing that it may claim, and waits."""
    worker = asyncio.create_task(store.claim(engine))
    for _ in range(3):  # each write is done before the next
        await store.test_write()
    assert not worker.done()
    return worker


async def end(store: Store, claim: Claim) -> None:
    """End the claimed generation."""
    await store.finish(claim, succeeded(claim), Event())


class RunningLimitConformance:
    """Part of the suite of the protocol; needs the fixture `opener` of StoreConformance."""

    @pytest.mark.parametrize("waits_first", [True, False])
    async def test_others_go_before_who_has_enough_running(
        self, opener: Opener, *, waits_first: bool
    ) -> None:
        """Over all engines; whether a worker or the generation was there first. The end of one lets the next begin."""
        store = await opener(running_limits={"ada": 2}.get)
        running = []
        for engine in ("other", "third"):
            await store.submit(submission(engine=engine))
            running.append(await store.claim(engine))
        if waits_first:
            worker = asyncio.create_task(store.claim("sketch"))
            await asyncio.sleep(0)
            mine = await store.submit(submission())
        else:
            mine = await store.submit(submission())
            worker = await wait_for_claim(store)
        await store.submit(submission(caller="bob"))
        assert (await asyncio.wait_for(worker, 60)).caller == "bob"
        worker = await wait_for_claim(store)
        await end(store, running[0])
        assert (await asyncio.wait_for(worker, 60)).generation.id == mine.generation.id

    @pytest.mark.parametrize("way", ["release", "fallback", "cancellation"])
    async def test_every_way_out_of_running_makes_room(self, opener: Opener, way: str) -> None:
        """Not only the end of the generation."""
        store = await opener(running_limits=ONE)
        await store.submit(submission(engine="other"))
        claim = await store.claim("other")
        await store.submit(submission())
        worker = await wait_for_claim(store)
        match way:
            case "release":
                await store.release(claim)
            case "fallback":
                claim.generation.engine = "third"
                await store.requeue_on_engine(claim, claim.generation, b"task")
            case _:
                await store.cancel("ada", claim.generation.id)
                await store.release(claim)
        assert (await asyncio.wait_for(worker, 60)).generation.engine == "sketch"

    async def test_a_restart_keeps_the_limit(self, opener: Opener) -> None:
        """What ran waits again, and again one at a time begins."""
        store = await opener(running_limits=ONE)
        for engine in ("sketch", "sketch", "other"):
            await store.submit(submission(engine=engine))
        await store.claim("sketch")
        await store.close()
        store = await opener(running_limits=ONE)
        claim = await store.claim("sketch")
        worker = await wait_for_claim(store, "other")
        await end(store, claim)
        await asyncio.wait_for(worker, 60)

    async def test_who_is_passed_over_saves_up_nothing(self, opener: Opener) -> None:
        """Once there is room, the callers take turns as if both had been served before."""
        store = await opener(running_limits=ONE)
        await store.submit(submission(engine="other"))
        elsewhere = await store.claim("other")
        for caller in ["ada"] * 20 + ["bob"] * 60:
            await store.submit(submission(caller=caller))
        served = ""
        for count in (30, 20):
            for _ in range(count):
                claim = await store.claim("sketch")
                served += claim.caller[0]
                await end(store, claim)
            if count == 30:
                await end(store, elsewhere)
        assert served[:30] == "b" * 30
        assert abs(served[30:].count("a") - 10) <= 1

    @pytest.mark.parametrize("seed", range(4))
    async def test_no_worker_misses_what_it_may_claim(self, opener: Opener, seed: int) -> None:
        """Many workers, engines, callers and ways out, at random: all ends, and the limits hold all the time."""
        limits = {"ada": 1, "bob": 3}
        store = await opener(running_limits=limits.get)
        chance = random.Random(seed)  # noqa: S311 (a simulation)
        engines = ("sketch", "other", "third")
        running: Counter[str] = Counter()
        left = 120

        async def work(engine: str) -> None:
            nonlocal left
            while True:
                claim = await store.claim(engine)
                running[claim.caller] += 1
                assert running[claim.caller] <= limits.get(claim.caller, 120)
                for _ in range(chance.randrange(4)):
                    await store.test_write()
                running[claim.caller] -= 1
                if chance.random() < 0.2:
                    await store.release(claim)
                elif chance.random() < 0.2:
                    claim.generation.engine = chance.choice(engines)
                    await store.requeue_on_engine(claim, claim.generation, b"task")
                else:
                    await end(store, claim)
                    left -= 1
                if not left:
                    return

        workers = [asyncio.create_task(work(engine)) for engine in engines for _ in range(3)]
        for _ in range(left):
            caller = chance.choice(["ada", "bob", "cy"])
            await store.submit(submission(caller=caller, engine=chance.choice(engines)))
        done, others = await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED, timeout=100)
        for worker in others:
            worker.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert left == 0
        for worker in done:
            worker.result()
