"""Every kind of FLUX model, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance, tasks
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.bfl.stand_in import StandIn


class TestFlux2(EngineConformance):
    """Image-to-image, and inpainting with the fill model."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """The default configuration."""
        running.reset()
        return running.engine()


class TestFlux2Flex(EngineConformance):
    """Has steps and guidance."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a price."""
        running.reset()
        return running.engine(model="flux-2-flex", price={"amount": 0.06})


class TestFluxPro(EngineConformance):
    """A coarser grid, and text-to-image only."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """One task at a time, in JPEG."""
        running.reset()
        return running.engine(model="flux-pro-1.1", output_format="jpeg", concurrency=1)


class TestUltra(EngineConformance):
    """An aspect ratio instead of a size."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """Without inpainting."""
        running.reset()
        return running.engine(model="flux-pro-1.1-ultra", inpainting=False)

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small image, since each is resized here."""
        return replace(tasks.image_task(image), width=512, height=544)
