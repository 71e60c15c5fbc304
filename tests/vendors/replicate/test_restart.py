"""A server that is killed while a prediction runs at Replicate finds it again, and pays once."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.vendors.killed_server import (
    hang_up_while_an_order_is_sent,
    kill_while_a_job_runs,
    kill_while_an_order_is_sent,
)
from tests.vendors.replicate.models import SDXL
from tests.vendors.replicate.stand_in import StandIn


def _engine(vendor: StandIn) -> dict[str, object]:
    return {"type": "replicate", "base_url": vendor.api, "model": SDXL}


async def test_a_killed_server_finds_its_prediction_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The prediction is not created a second time."""
    await kill_while_a_job_runs(vendor, start_server, _engine(vendor))


async def test_a_prediction_that_was_begun_goes_on_though_the_budget_is_spent(
    vendor: StandIn, start_server: StartServer
) -> None:
    """It is paid already; what was not begun waits."""
    engine = _engine(vendor)
    await kill_while_a_job_runs(vendor, start_server, engine, then={**engine, "daily_budget": 0})


async def test_a_prediction_that_may_have_been_accepted_is_not_created_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The server was killed while its request was on the way."""
    await kill_while_an_order_is_sent(vendor, start_server, _engine(vendor))


async def test_a_prediction_that_is_accepted_after_its_caller_hung_up_is_cancelled(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The answer to the request is waited for."""
    await hang_up_while_an_order_is_sent(vendor, start_server, _engine(vendor))
