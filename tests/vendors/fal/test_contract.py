"""Models and workflows at fal, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.tasks import image_task
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.fal.stand_in import COMFY, StandIn


class _Small(EngineConformance):
    """Small images."""

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """The suite's task in a small size."""
        return replace(image_task(image), width=256, height=264)


class TestLightning(_Small):
    """The model with few steps."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """The default configuration."""
        running.reset()
        return running.engine()


class TestFull(_Small):
    """The model with negative prompts, guidance and LoRAs."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a LoRA and a price; images are hosted."""
        running.reset()
        return running.engine(
            model="fal-ai/fast-sdxl",
            loras={"rust": "https://example.org/rust.safetensors"},
            price={"amount": 0.003},
            image_transfer="hosted",
            safety="flag",
        )


class TestComfy(_Small):
    """Workflows on a custom app."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With LoRAs and depth ControlNet."""
        running.reset()
        return running.engine(comfy=COMFY)
