"""Workflows at RunPod, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.tasks import image_task
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.runpod.stand_in import FILES, StandIn


class _Small(EngineConformance):
    """Small images."""

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """The suite's task in a small size."""
        return replace(image_task(image), width=128, height=160)


class TestSdxl(_Small):
    """Workflows for SDXL."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With LoRAs, depth ControlNet and a price."""
        running.reset()
        price = {"amount": 0.0004, "unit": "second"}
        return running.engine(price=price, **FILES)


class TestFlux(_Small):
    """Workflows for FLUX, which take no negative prompt."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """One task at a time."""
        running.reset()
        return running.engine(family="flux", concurrency=1)
