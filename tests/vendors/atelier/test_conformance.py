"""An engine of another server, through the suite for all engines."""

from __future__ import annotations

import pytest

from atelier_engines.conformance import EngineConformance
from atelier_engines.engine import Engine
from atelier_engines.vendors.atelier import ENGINE, AtelierConfig
from tests.conftest import RunningServer


class TestNamed(EngineConformance):
    """With the name of the engine there."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, other: RunningServer) -> Engine:
        """Forwards to `sketch`."""
        return ENGINE.create(AtelierConfig(address=other.address, engine="sketch"))


class TestUnnamed(EngineConformance):
    """The server there chooses."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, other: RunningServer) -> Engine:
        """One task at a time."""
        return ENGINE.create(AtelierConfig(address=other.address, concurrency=1))
