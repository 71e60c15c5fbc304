"""A server that is killed or told to stop while a job runs at Black Forest Labs finds it again, and pays once."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.vendors.bfl.stand_in import StandIn
from tests.vendors.killed_server import (
    hang_up_while_a_job_runs,
    kill_while_a_job_runs,
    kill_while_an_order_is_sent,
)
from tests.vendors.stopped_server import stop_while_a_job_runs, stop_while_an_order_is_sent


async def test_a_killed_server_finds_its_job_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The job is not submitted a second time."""
    engine = {"type": "bfl", "base_url": vendor.api}
    await kill_while_a_job_runs(vendor, start_server, engine)


async def test_a_caller_who_hangs_up_and_comes_back_gets_the_same_job(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The service cannot cancel it, so it is not submitted a second time."""
    engine = {"type": "bfl", "base_url": vendor.api}
    await hang_up_while_a_job_runs(vendor, start_server, engine)


async def test_a_job_that_may_have_been_accepted_is_not_submitted_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The server was killed while its request was on the way."""
    engine = {"type": "bfl", "base_url": vendor.api}
    await kill_while_an_order_is_sent(vendor, start_server, engine)


async def test_a_server_that_is_told_to_stop_leaves_its_job_to_the_next_one(
    vendor: StandIn, start_server: StartServer
) -> None:
    """As one that is killed."""
    engine = {"type": "bfl", "base_url": vendor.api}
    await stop_while_a_job_runs(vendor, start_server, engine)


async def test_a_server_that_is_told_to_stop_waits_for_the_answer_to_an_order(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The next one finds the job."""
    engine = {"type": "bfl", "base_url": vendor.api}
    await stop_while_an_order_is_sent(vendor, start_server, engine)
