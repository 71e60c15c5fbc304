"""The diffusion engine keeps what every engine promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_engines.contract import EngineContract
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine


class TestDiffusion(EngineContract):
    """On the CPU, with a small random model."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, model: Path) -> DiffusionEngine:
        """Not started."""
        return DiffusionEngine(DiffusionConfig(model=str(model), device="cpu", threads=1))
