"""A rented instance, through the suite for all engines."""

from __future__ import annotations

import pytest

from atelier_engines.conformance import EngineConformance
from atelier_engines.engine import Engine
from atelier_engines.vendors.vastai.engine import VastaiEngine
from tests.vendors.vastai.conftest import config_for
from tests.vendors.vastai.stand_in import StandIn


class TestRented(EngineConformance):
    """Rented at the start, and again after a stop."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a sketch engine on the instance, and without checks in between."""
        running.reset()
        return VastaiEngine(config_for(running, check_seconds=3600), delay_scale=0.001)
