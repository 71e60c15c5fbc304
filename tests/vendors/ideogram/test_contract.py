"""Ideogram, through the suites for all engines and for all remote engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance, tasks
from atelier_engines.conformance.remote import RemoteConformance
from atelier_engines.conformance.remote_service import FakeService
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.ideogram.stand_in import StandIn


class TestIdeogram(EngineConformance):
    """With the default settings."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a price."""
        running.reset()
        return running.engine(price={"amount": 0.06})

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one, since each image is resized here."""
        return replace(tasks.image_task(image), width=512, height=520)


class TestFailures(RemoteConformance):
    """The suite for all remote engines."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return vendor
