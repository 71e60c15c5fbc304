"""What every store says of all that there is to do. Mixed into a store's test class beside StoreConformance."""

from __future__ import annotations

from atelier_server.store.protocol import Event
from atelier_server.store.quotas import Share
from atelier_server.store.work_protocol import EngineWork
from tests.store.conformance import Opener, submission, succeeded


class WorkConformance:
    """Tests of `list_work` and its like."""

    async def test_work_is_what_waits_and_what_runs(self, opener: Opener) -> None:
        """Of all tenants, by engine, in cost units; what has ended is none."""
        store = await opener()
        assert await store.list_work() == {}
        for caller, cost in (("ada", 2.0), ("bob", 3.0), ("bob", 0.5)):
            await store.submit(submission(caller=caller, share=Share(cost=cost, weight=4.0)))
        await store.submit(submission(engine="other"))
        claim = await store.claim("sketch")
        work = await store.list_work()
        assert work == {
            "sketch": EngineWork(waiting=2, running=1, cost=5.5),
            "other": EngineWork(waiting=1, cost=1.0),
        }
        await store.finish(claim, succeeded(claim), Event())
        assert (await store.list_work())["sketch"] == EngineWork(waiting=2, cost=3.5)

    async def test_the_newest_that_succeeded_come_with_their_cost(self, opener: Opener) -> None:
        """The last that ended first, however many wait."""
        store = await opener()
        for cost in (2.0, 3.0, 0.5, 9.0):
            await store.submit(submission(share=Share(cost=cost)))
        claims = [await store.claim("sketch") for _ in range(3)]
        for claim in reversed(claims):
            await store.finish(claim, succeeded(claim), Event())
        found = await store.list_newest_succeeded(2)
        assert [(made.id, cost) for made, cost in found] == [
            (claims[0].generation.id, 2.0),
            (claims[1].generation.id, 3.0),
        ]

    async def test_a_process_alone_speaks_for_all(self, opener: Opener) -> None:
        """There is nobody else."""
        assert await (await opener()).speaks_for_all()
