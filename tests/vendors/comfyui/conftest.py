"""Two fake ComfyUI servers for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vendors.comfyui.stand_in import stand_ins
from tests.vendors.comfyui.state import StandIn


@pytest.fixture(scope="session")
def running() -> Iterator[list[StandIn]]:
    """Started once."""
    with stand_ins(2) as servers:
        yield servers


@pytest.fixture
def server(running: list[StandIn]) -> StandIn:
    """Without jobs or scripted failures."""
    running[0].reset()
    return running[0]


@pytest.fixture
def second(running: list[StandIn]) -> StandIn:
    """A second server."""
    running[1].reset()
    return running[1]
