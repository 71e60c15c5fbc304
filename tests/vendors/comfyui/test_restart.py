"""A server that is killed or told to stop while ComfyUI has its job finds it again, whenever that was."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.vendors.comfyui.state import StandIn
from tests.vendors.killed_server import kill_while_an_order_is_sent
from tests.vendors.restart_conformance import JobRestart, Settings


class TestRestart(JobRestart):
    """See JobRestart."""

    @pytest.fixture
    def vendor(self, server: StandIn) -> StandIn:
        """The fake server, whose job takes a few seconds."""
        server.does.step_seconds = 0.1
        return server

    @pytest.fixture
    def engine(self, server: StandIn) -> Settings:
        """At the stand-in."""
        return {"type": "comfyui", "servers": [{"url": server.url}]}

    async def test_a_job_whose_order_was_not_answered_is_found_again(
        self, vendor: StandIn, start_server: StartServer, engine: Settings
    ) -> None:
        """The server was killed while its request was on the way; the job is not submitted again."""
        await kill_while_an_order_is_sent(vendor, start_server, engine, found=True)
