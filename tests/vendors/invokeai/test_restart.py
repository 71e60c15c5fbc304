"""A server that is killed or told to stop while InvokeAI runs its batch finds it again."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.vendors.invokeai.stand_in import StandIn
from tests.vendors.killed_server import kill_while_a_job_runs, kill_while_an_order_is_sent
from tests.vendors.restart_conformance import JobRestart, Settings


class TestRestart(JobRestart):
    """See JobRestart."""

    @pytest.fixture
    def engine(self, vendor: StandIn) -> Settings:
        """At the stand-in."""
        return {"type": "invokeai", "base_url": vendor.api}

    async def test_a_batch_whose_order_was_not_answered_is_found_again(
        self, vendor: StandIn, start_server: StartServer, engine: Settings
    ) -> None:
        """Its id was stored before it was sent."""
        await kill_while_an_order_is_sent(vendor, start_server, engine, found=True)

    async def test_nothing_cancels_the_batch_of_a_killed_server(
        self, vendor: StandIn, start_server: StartServer, engine: Settings
    ) -> None:
        """The next process continues with it."""
        await kill_while_a_job_runs(vendor, start_server, engine)
        assert not vendor.cancelled
