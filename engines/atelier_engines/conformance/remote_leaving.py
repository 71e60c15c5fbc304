"""What a closed run leaves at a remote service for another: nothing is paid twice, and nothing stopped is awaited."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from atelier_engines.closing import Closing, Stop, announce
from atelier_engines.conformance.fake_server import Handler, drop_connection
from atelier_engines.conformance.remote_fixtures import RemoteFixtures
from atelier_engines.conformance.remote_service import (
    FakeService,
    collect_outputs,
    run_engine,
    wait,
)
from atelier_engines.event import Dispatched, Output
from atelier_engines.task import ImageTask

_SEEDS = (3, 4, 5)


class LeaveConformance(RemoteFixtures):
    """A caller who is lost and comes back gets what was paid for, and a new job for what was stopped."""

    @pytest.fixture
    def leaving(self, resumable: FakeService) -> FakeService:
        """The service; skips those whose results are removed when a run is closed."""
        if not resumable.leaves_results:
            pytest.skip("a closed run removes its results")
        return resumable

    def test_a_job_that_has_ended_is_not_ordered_again(self, leaving: FakeService) -> None:
        """Its run was closed when its image had just come."""
        closing = wait(_close_at(leaving, leaving.task, Output))
        assert closing.left
        assert not leaving.api_key or leaving.api_key not in closing.left
        assert wait(collect_outputs(leaving, replace(leaving.task, resume=closing.left)))
        assert (leaving.accepted, leaving.cancelled) == (1, 0)

    def test_only_what_was_stopped_is_ordered_again(self, leaving: FakeService) -> None:
        """The first of three images had come; each is paid once."""
        task = replace(leaving.task, seeds=_SEEDS)
        closing = wait(_close_at(leaving, task, Output))
        assert closing.left
        leaving.cancels.clear()
        outputs = wait(collect_outputs(leaving, replace(task, resume=closing.left)))
        assert [output.seed for output in outputs] == [*_SEEDS]
        assert leaving.billed == len(_SEEDS)

    def test_a_job_that_may_go_on_is_not_ordered_again(
        self, leaving: FakeService, running_job: Handler
    ) -> None:
        """Whether the request to cancel it has arrived is unknown, and it goes on."""
        leaving.polls.always = running_job
        leaving.cancels.always = drop_connection
        closing = wait(_close_at(leaving, leaving.task, Dispatched))
        assert closing.stop is Stop.MAY_GO_ON
        assert closing.left
        leaving.polls.clear()
        leaving.cancels.clear()
        assert wait(collect_outputs(leaving, replace(leaving.task, resume=closing.left)))
        assert leaving.accepted == 1

    def test_a_job_that_was_stopped_after_all_is_ordered_again(
        self, cancellable: FakeService, running_job: Handler
    ) -> None:
        """The request to cancel it has arrived, and its answer was lost."""
        if not cancellable.resumable or not cancellable.leaves_results:
            pytest.skip("its jobs are not found again")
        cancellable.polls.always = running_job
        cancellable.cancels.always = drop_connection
        closing = wait(_close_at(cancellable, cancellable.task, Dispatched))
        assert closing.left
        cancellable.polls.clear()
        cancellable.stop_jobs()
        assert wait(collect_outputs(cancellable, replace(cancellable.task, resume=closing.left)))
        assert (cancellable.accepted, cancellable.billed) == (2, 1)

    def test_a_run_that_stops_its_job_leaves_nothing(self, leaving: FakeService) -> None:
        """As far as the service confirms it: the next run begins anew."""
        closing = wait(_close_at(leaving, leaving.task, Dispatched))
        if closing.stop in {Stop.NEVER_STARTED, Stop.STOPPED}:
            assert closing.left == ""
        else:
            assert closing.left


async def _close_at(
    service: FakeService, task: ImageTask, kind: type[Output | Dispatched]
) -> Closing:
    """How a run is closed at its first event of that kind; Dispatched counts once a job is accepted."""
    closing = Closing()
    announce(closing)
    async with run_engine(service) as engine, aclosing(engine.run(task)) as events:
        async for event in events:
            if isinstance(event, kind) and service.accepted:
                break
    return closing
