"""One process with Helm's library for all tests of the chart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.charts import Helm


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    """Renders, lints and validates."""
    running = Helm()
    yield running
    running.close()
