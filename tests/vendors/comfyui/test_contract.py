"""The comfyui engine, with every kind of workflow, through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance, tasks
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from tests.vendors.comfyui.state import StandIn


class _Small(EngineConformance):
    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one: it is generated and decoded many times."""
        return replace(tasks.image_task(image), width=128, height=96)


class TestSdxl(_Small):
    """On two servers, with ControlNets."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: list[StandIn]) -> Engine:
        """With all features."""
        for server in running:
            server.reset()
        return running[0].engine(
            servers=[{"url": server.url} for server in running],
            controlnets={"depth": "sdxl_depth.safetensors", "canny": "sdxl_canny.safetensors"},
            price={"amount": 0.001, "unit": "second"},
        )


class TestFlux(_Small):
    """On one server, without ControlNets and previews."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: list[StandIn]) -> Engine:
        """One task at a time."""
        for server in running:
            server.reset()
        return running[0].engine(family="flux", preview_method="none", concurrency=1)


class TestOldServer(_Small):
    """Without progress states and metadata of previews."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: list[StandIn]) -> Engine:
        """One model, one image per task."""
        running[0].reset()
        running[0].does.old = True
        return running[0].engine(models=["juggernaut.safetensors"], max_images=1)
