"""What every store must do about priorities; part of the suite in `conformance`."""

from __future__ import annotations

import pytest

from atelier.v1.generation_pb2 import Priority
from atelier_server.errors import QueueFullError
from atelier_server.store.protocol import Event, Store, Submission
from atelier_server.store.quotas import Share
from tests.store.conformance import Opener, submission, succeeded

BATCH = Priority.PRIORITY_BATCH
INTERACTIVE = Priority.PRIORITY_INTERACTIVE


def of_priority(
    priority: Priority.ValueType,
    *,
    caller: str = "ada",
    engine: str = "sketch",
    cost: float = 1,
    queue_limit: int = 10**6,
) -> Submission:
    """A generation to accept, with that priority."""
    share = Share(cost=cost, weight=1)
    made = submission(caller=caller, engine=engine, share=share, queue_limit=queue_limit)
    made.generation.priority = priority
    return made


async def accept(store: Store, priority: Priority.ValueType, count: int, cost: float = 1) -> None:
    """Submit so many generations of that priority."""
    for _ in range(count):
        await store.submit(of_priority(priority, cost=cost))


async def serve(store: Store, count: int) -> str:
    """Claim so many, and end them; b for each with the priority BATCH, i for others, in order."""
    served = ""
    for _ in range(count):
        claim = await store.claim("sketch")
        served += "b" if claim.generation.priority == BATCH else "i"
        await store.finish(claim, succeeded(claim), Event())
    return served


class PriorityConformance:
    """Part of the suite of the protocol; needs the fixtures of StoreConformance."""

    async def test_interactive_ones_go_first(self, store: Store) -> None:
        """Each kind in the order in which they came; the default is interactive."""
        kinds = [BATCH, INTERACTIVE, BATCH, Priority.PRIORITY_UNSPECIFIED]
        ids = [(await store.submit(of_priority(kind))).generation.id for kind in kinds]
        order = [(await store.claim("sketch")).generation.id for _ in ids]
        assert order == [ids[1], ids[3], ids[0], ids[2]]

    async def test_others_turns_do_not_depend_on_it(self, store: Store) -> None:
        """A tenant whose work may wait has its share all the same."""
        for _ in range(3):
            await store.submit(of_priority(BATCH, caller="bob"))
        await accept(store, INTERACTIVE, 3)
        callers = [(await store.claim("sketch")).caller for _ in range(6)]
        assert "".join(caller[0] for caller in callers) in {"ababab", "bababa"}

    async def test_nothing_keeps_batch_waiting_for_ever(self, store: Store) -> None:
        """Each goes once the others have been given eight times its cost units while it waited."""
        await accept(store, BATCH, 4, cost=2)
        await accept(store, INTERACTIVE, 50, cost=4)
        assert await serve(store, 12) == "iiiibiiiibii"

    async def test_batch_work_saves_nothing_up(self, store: Store) -> None:
        """What others were given while none waited does not count."""
        await accept(store, INTERACTIVE, 30)
        assert await serve(store, 20) == "i" * 20
        await accept(store, BATCH, 1)
        assert await serve(store, 11) == "iiiiiiiibii"

    @pytest.mark.parametrize("kept", [0, 3])
    async def test_a_restart_keeps_how_long_batch_work_has_waited(
        self, opener: Opener, kept: int
    ) -> None:
        """It does not begin to wait anew."""
        store = await opener()
        await accept(store, BATCH, 1)
        await accept(store, INTERACTIVE, 20)
        await serve(store, 8 - kept)
        await store.close()
        store = await opener()
        assert await serve(store, kept + 1) == "i" * kept + "b"

    async def test_places_in_the_queue_know_priorities(self, store: Store) -> None:
        """How many are ahead, as the first event says it, is how many are claimed before."""
        kinds = [BATCH, BATCH, INTERACTIVE, BATCH, *[INTERACTIVE] * 8, BATCH]
        places = {}
        for kind in kinds:
            made = (await store.submit(of_priority(kind))).generation.id
            watching = store.watch(made, 0)
            places[made] = (await anext(watching)).queue_position
            await watching.aclose()
        assert list(places.values()) == [0, 1, 0, 3, 1, 2, 3, 4, 5, 6, 7, 9, 12]
        order = [(await store.claim("sketch")).generation.id for _ in kinds]
        assert order[-1] == list(places)[-1]
        assert [list(places).index(made) for made in order] == [
            *(2, 4, 5, 6, 7, 8, 9, 10),
            *(0, 11),
            *(1, 3, 12),
        ]

    async def test_places_farther_off_leave_batch_work_out(self, store: Store) -> None:
        """Hundreds that it overtakes are not said to be ahead of it."""
        await accept(store, BATCH, 60)
        await accept(store, INTERACTIVE, 20)
        told = []
        for kind in (INTERACTIVE, BATCH):
            made = (await store.submit(of_priority(kind))).generation.id
            watching = store.watch(made, 0)
            told.append((await anext(watching)).queue_position)
            await watching.aclose()
        assert told == [20, 81]

    async def test_what_runs_again_keeps_its_priority(self, store: Store) -> None:
        """What is given back goes behind as before."""
        batch = (await store.submit(of_priority(BATCH))).generation.id
        claim = await store.claim("sketch")
        urgent = (await store.submit(of_priority(INTERACTIVE))).generation.id
        await store.release(claim)
        assert [(await store.claim("sketch")).generation.id for _ in range(2)] == [urgent, batch]

    async def test_a_fallback_keeps_its_priority(self, store: Store) -> None:
        """In the queue of another engine it goes behind, too."""
        batch = (await store.submit(of_priority(BATCH, engine="other"))).generation.id
        claim = await store.claim("other")
        claim.generation.engine = "sketch"
        await store.requeue_on_engine(claim, claim.generation, b"task")
        urgent = (await store.submit(of_priority(INTERACTIVE))).generation.id
        assert [(await store.claim("sketch")).generation.id for _ in range(2)] == [urgent, batch]

    async def test_batch_work_fills_no_queue_for_the_others(self, store: Store) -> None:
        """Who has none but batch work in a full queue may add one that somebody waits for."""
        await accept(store, BATCH, 2)
        assert await store.queue_depth("sketch", "ada") == 0
        assert await store.queue_depth("sketch", "ada", batch=True) == 2
        with pytest.raises(QueueFullError):
            await store.submit(of_priority(BATCH, queue_limit=2))
        await store.submit(of_priority(INTERACTIVE, queue_limit=2))
        with pytest.raises(QueueFullError):
            await store.submit(of_priority(INTERACTIVE, queue_limit=2))
