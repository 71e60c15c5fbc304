"""The conformance suite, run on this engine."""

from __future__ import annotations

import pytest
from atelier_stripes import StripesConfig, StripesEngine

from atelier_engines.conformance import EngineConformance


class TestStripes(EngineConformance):
    """Stripes 32 pixels wide."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> StripesEngine:
        """The engine under test."""
        return StripesEngine(StripesConfig(stripe_pixels=32))
