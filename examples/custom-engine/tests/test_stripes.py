"""The engine through the suite that every engine of Atelier is put through."""

from __future__ import annotations

import pytest
from atelier_stripes import StripesConfig, StripesEngine

from atelier_engines.conformance import EngineConformance


class TestStripes(EngineConformance):
    """As it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> StripesEngine:
        """With broad stripes."""
        return StripesEngine(StripesConfig(stripe_pixels=32))
