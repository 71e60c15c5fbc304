"""The sketch engine, in each way of making pictures, through the suite for all engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier_engines.conformance import EngineConformance
from atelier_engines.engine import Engine
from atelier_engines.sketch import ENGINE
from atelier_engines.sketch.config import SketchConfig


class TestDrawing(EngineConformance):
    """As it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Draws every picture."""
        return ENGINE.create(SketchConfig())


class TestPicking(EngineConformance):
    """With a folder of pictures."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tmp_path_factory: pytest.TempPathFactory) -> Engine:
        """Picks from two pictures, one of them a grey one."""
        folder: Path = tmp_path_factory.mktemp("pictures")
        Image.new("RGB", (80, 60), "teal").save(folder / "a.png")
        Image.new("L", (30, 90), 200).save(folder / "b.webp")
        return ENGINE.create(SketchConfig(image_directory=folder))


class TestFixedSize(EngineConformance):
    """With an exact number of bytes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Gives PNG files of 100000 bytes."""
        return ENGINE.create(SketchConfig(output_bytes=100_000))


class TestOneAtATime(EngineConformance):
    """Slow, paid, and for one caller at a time."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Takes its time."""
        config = SketchConfig(concurrency=1, delay_seconds=0.01, price_per_image=0.02)
        return ENGINE.create(config)
