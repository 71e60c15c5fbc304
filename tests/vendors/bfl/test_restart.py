"""A server that is killed or told to stop while a job runs at Black Forest Labs finds it again, and pays once."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.vendors.bfl.stand_in import StandIn
from tests.vendors.killed_server import hang_up_while_a_job_runs
from tests.vendors.restart_conformance import OrderRestart, Settings


class TestRestart(OrderRestart):
    """See OrderRestart."""

    @pytest.fixture
    def engine(self, vendor: StandIn) -> Settings:
        """At the stand-in."""
        return {"type": "bfl", "base_url": vendor.api}

    async def test_a_caller_who_hangs_up_and_comes_back_gets_the_same_job(
        self, vendor: StandIn, start_server: StartServer, engine: Settings
    ) -> None:
        """The service cannot cancel it, so it is not submitted a second time."""
        await hang_up_while_a_job_runs(vendor, start_server, engine)
