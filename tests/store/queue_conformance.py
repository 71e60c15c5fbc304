"""What every store must do about queues: observe, list and move what waits; part of the suite in `conformance`."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Generation, State
from atelier_server.store.protocol import ENDED, Event, Store
from tests.store.conformance import submission, succeeded


def on_engine(generation: Generation, engine: str) -> Generation:
    """The generation, decided for another engine."""
    moved = Generation()
    moved.CopyFrom(generation)
    moved.engine = engine
    return moved


class QueueConformance:
    """Part of the suite of the protocol; needs the fixtures of StoreConformance."""

    async def test_observers_see_every_change_of_state(self, store: Store) -> None:
        """In order: accepted, running, ended."""
        seen: list[Event] = []
        store.observe(seen.append)
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim), Event())
        states = [State.STATE_QUEUED, State.STATE_RUNNING, State.STATE_SUCCEEDED]
        assert [event.state for event in seen] == states
        assert {event.generation_id for event in seen} == {generation_id}

    async def test_what_waits_and_what_succeeded_is_listed_with_its_task(
        self, store: Store
    ) -> None:
        """For a server that starts; what failed is left out."""
        done, waiting = [
            (await store.submit(submission(task=task))).generation.id for task in (b"1", b"2")
        ]
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim), Event())
        assert await store.list_waiting_tasks() == [(waiting, "sketch", "ada", False, b"2")]
        assert [(found.id, task) for found, task in await store.list_succeeded_tasks(9)] == [
            (done, b"1")
        ]
        assert await store.list_succeeded_tasks(1) == []  # the newest one waits

    async def test_what_waits_moves_to_another_engine(self, store: Store) -> None:
        """With its new task, to a worker that waits there; its old queue has it no more."""
        accepted = [(await store.submit(submission())).generation for _ in range(3)]
        page = await store.list_waiting("sketch", "", 2)
        assert [waiting.generation.id for waiting in page] == [made.id for made in accepted[:2]]
        assert (page[0].caller, page[0].request.image.prompt) == ("ada", "a lighthouse")
        (last,) = await store.list_waiting("sketch", accepted[1].id, 2)
        assert last.generation.id == accepted[2].id
        assert await store.move(accepted[1], on_engine(accepted[1], "other"), b"for other")
        assert (await store.queue_depth("sketch"), await store.queue_depth("other")) == (2, 1)
        assert not await store.move(accepted[1], on_engine(accepted[1], "third"), b"")
        claim = await store.claim("other")
        assert (claim.generation.id, claim.task, claim.attempt) == (accepted[1].id, b"for other", 1)
        assert not await store.move(accepted[1], on_engine(accepted[1], "third"), b"")
        remaining = [(await store.claim("sketch")).generation.id for _ in range(2)]
        assert remaining == [accepted[0].id, accepted[2].id]
        assert not await store.move(accepted[0], on_engine(accepted[0], "third"), b"")

    async def test_what_may_run_elsewhere_does_not_move(self, store: Store) -> None:
        """A remote service may do the work that waits to be continued."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        await store.save_remote_handle(claim, "job 1")
        await store.release(claim, keep_remote_handle=True)
        assert (await store.get("ada", generation_id)).state not in ENDED
        assert await store.list_waiting("sketch", "", 9) == []
