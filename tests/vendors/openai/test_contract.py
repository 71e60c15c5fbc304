"""OpenAI's models of any and of fixed sizes, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance, tasks
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.openai.asking import engine_for
from tests.vendors.openai.stand_in import StandIn


class TestAnySize(EngineConformance):
    """As it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a price."""
        running.reset()
        return engine_for(running, price={"amount": 0.04})

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one."""
        return replace(tasks.image_task(image), width=512, height=528)


class TestFixedSizes(EngineConformance):
    """An older model, without previews."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """In JPEG."""
        running.reset()
        return engine_for(
            running, model="gpt-image-1.5", output_format="jpeg", partial_images=0, concurrency=1
        )

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one, since each is brought to size here."""
        return replace(tasks.image_task(image), width=512, height=520)
