"""A server that is killed or told to stop while a job runs at fal finds it again, and pays once."""

from __future__ import annotations

import pytest

from tests.vendors.fal.stand_in import StandIn
from tests.vendors.restart_conformance import CancellableOrderRestart, Settings


class TestRestart(CancellableOrderRestart):
    """See CancellableOrderRestart."""

    @pytest.fixture
    def engine(self, vendor: StandIn) -> Settings:
        """At the stand-in."""
        return {"type": "fal", "base_url": vendor.queue}
