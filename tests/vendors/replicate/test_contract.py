"""Models at Replicate of every kind, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.tasks import image_task
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.replicate.models import KONTEXT, PRO, SCHNELL, SDXL, SDXL_VERSION, UNSEEDED
from tests.vendors.replicate.stand_in import StandIn


class _Small(EngineConformance):
    """Small images."""

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """The suite's task in a small size."""
        return replace(image_task(image), width=256, height=264)


class TestCommunityModel(_Small):
    """A model with all kinds of inputs, run by the version that is the latest."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a price."""
        running.reset()
        return running.engine(price={"amount": 0.003})


class TestOneVersion(_Small):
    """A version that the configuration names; images are sent inline, and the check may be disabled."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """By its id."""
        running.reset()
        model = f"{SDXL}:{SDXL_VERSION}"
        return running.engine(model=model, image_transfer="inline", safety="off", wait_seconds=0)


class TestOfficialModel(_Small):
    """A model without width and height, run by its name."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a fixed input."""
        running.reset()
        return running.engine(model=SCHNELL, inputs={"go_fast": False})


class TestCustomSize(_Small):
    """A model whose size counts only with a certain aspect ratio, and that returns one file."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """In steps of 8 pixels."""
        running.reset()
        return running.engine(model=PRO)


class TestEditing(_Small):
    """A model that edits an image by the prompt alone."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """It takes no strength."""
        running.reset()
        return running.engine(model=KONTEXT)


class TestPromptAlone(_Small):
    """A model that takes nothing but a prompt, and does not say what it returns."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """It takes no seed."""
        running.reset()
        return running.engine(model=UNSEEDED)
