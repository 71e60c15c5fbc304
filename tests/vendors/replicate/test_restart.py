"""A server that is killed or told to stop while a prediction runs at Replicate finds it again, and pays once."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.vendors.killed_server import kill_while_a_job_runs
from tests.vendors.replicate.models import SDXL
from tests.vendors.replicate.stand_in import StandIn
from tests.vendors.restart_conformance import CancellableOrderRestart, Settings


class TestRestart(CancellableOrderRestart):
    """See CancellableOrderRestart."""

    @pytest.fixture
    def engine(self, vendor: StandIn) -> Settings:
        """At the stand-in."""
        return {"type": "replicate", "base_url": vendor.api, "model": SDXL}

    async def test_a_prediction_that_was_begun_goes_on_though_the_budget_is_spent(
        self, vendor: StandIn, start_server: StartServer, engine: Settings
    ) -> None:
        """It is paid already; what was not begun waits."""
        spent = {**engine, "daily_budget": 0}
        await kill_while_a_job_runs(vendor, start_server, engine, then=spent)
