"""InvokeAI's stand-in, one for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vendors.invokeai.stand_in import StandIn, stand_in


@pytest.fixture(scope="session")
def running() -> Iterator[StandIn]:
    """Started once."""
    with stand_in() as made:
        yield made


@pytest.fixture
def vendor(running: StandIn) -> StandIn:
    """An honest one that knows nothing yet."""
    running.reset()
    return running
