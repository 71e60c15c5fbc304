"""Ideogram, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance, tasks
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.ideogram.asking import engine_for
from tests.vendors.ideogram.stand_in import StandIn


class TestIdeogram(EngineConformance):
    """As it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a price."""
        running.reset()
        return engine_for(running, price={"amount": 0.06})

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one, since each is brought to size here."""
        return replace(tasks.image_task(image), width=512, height=520)
