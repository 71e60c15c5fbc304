"""What every engine for a remote service must do when its server is killed, told to stop, or left by its caller.

A test module of a vendor subclasses the classes that fit its service, and gives them `engine`; `vendor` is the
stand-in of its folder.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from atelier_engines.conformance.remote_service import FakeService
from tests.conftest import StartServer
from tests.vendors.killed_server import (
    hang_up_while_an_order_is_sent,
    kill_while_a_job_is_cancelled,
    kill_while_a_job_runs,
    kill_while_an_order_is_cancelled,
    kill_while_an_order_is_sent,
)
from tests.vendors.stopped_server import (
    stop_while_a_job_runs,
    stop_while_an_order_is_cancelled,
    stop_while_an_order_is_sent,
)

Settings = Mapping[str, object]


class JobRestart:
    """Of every service whose jobs can be found again by a handle."""

    @pytest.fixture
    def engine(self) -> Settings:
        """The configuration of the engine under test, without its key."""
        raise NotImplementedError

    async def test_a_killed_server_finds_its_job_again(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """The job is not submitted a second time."""
        await kill_while_a_job_runs(vendor, start_server, engine)

    async def test_a_server_that_is_told_to_stop_leaves_its_job_to_the_next_one(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """As one that is killed."""
        await stop_while_a_job_runs(vendor, start_server, engine)


class OrderRestart(JobRestart):
    """Of services that are paid for a job, so that none may be ordered twice."""

    async def test_a_job_that_may_have_been_accepted_is_not_submitted_again(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """The server was killed while its request was on the way."""
        await kill_while_an_order_is_sent(vendor, start_server, engine)

    async def test_a_job_that_may_have_been_accepted_for_lost_callers_is_not_submitted_again(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """The callers come back to the next server."""
        await kill_while_an_order_is_cancelled(vendor, start_server, engine)

    async def test_a_server_that_is_told_to_stop_waits_for_the_answer_to_an_order(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """The next one finds the job."""
        await stop_while_an_order_is_sent(vendor, start_server, engine)


class CancellableOrderRestart(OrderRestart):
    """Of paid services that can cancel a job."""

    async def test_a_job_that_is_accepted_after_its_caller_hung_up_is_cancelled(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """The answer to the request is waited for."""
        await hang_up_while_an_order_is_sent(vendor, start_server, engine)

    async def test_a_server_that_is_told_to_stop_cancels_what_it_was_to_cancel(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """Also when the service has not yet answered the order."""
        await stop_while_an_order_is_cancelled(vendor, start_server, engine)

    async def test_a_job_that_a_killed_server_was_to_cancel_is_not_resumed(
        self, vendor: FakeService, start_server: StartServer, engine: Settings
    ) -> None:
        """The next server cancels it; whoever asks again gets another."""
        await kill_while_a_job_is_cancelled(vendor, start_server, engine)
