"""The upscale engine, with and without a network, through the suite for all engines."""

from __future__ import annotations

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.tasks import random_image
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask, Upscale
from atelier_engines.upscaling import ENGINE
from atelier_engines.upscaling.config import UpscaleConfig
from tests.engines.upscaling.networks import compact


class TestLanczos(EngineConformance):
    """As it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Without weights."""
        return ENGINE.create(UpscaleConfig())


class TestNetwork(EngineConformance):
    """With a small network, in many tiles."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tmp_path_factory: pytest.TempPathFactory) -> Engine:
        """On the CPU."""
        path = compact(tmp_path_factory.mktemp("weights"))
        return ENGINE.create(
            UpscaleConfig(upscalers={"small": path}, device="cpu", upscale_tile=64)
        )

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:  # noqa: ARG002 (of the interface)
        """A small picture, twice as large."""
        return ImageTask(
            prompt="",
            width=150,
            height=100,
            seeds=(7,),
            init_image=random_image(150, 100, 1),
            upscale=Upscale(factor=2.0),
        )
