"""The fake Vast.ai, one for all tests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.engine import VastaiEngine
from tests.vendors.vastai.stand_in import KEY, StandIn, stand_in

Make = Callable[..., VastaiEngine]


def config_for(vendor: StandIn, **settings: object) -> VastaiConfig:
    """Settings with short pauses."""
    return VastaiConfig.model_validate(
        {
            "api_key": KEY,
            "base_url": vendor.api,
            "label": "tests",
            "image": "atelier:1",
            "max_price_per_hour": 1.0,
            "spending_cap": 10.0,
            "poll_seconds": 0.05,
            "check_seconds": 0.05,
            "concurrency": 2,
            "generate_credentials": False,
            "worker": {"engine": "sketch", "retry_timeout_seconds": 5.0},
            **settings,
        }
    )


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Started once."""
    with stand_in(tmp_path_factory.mktemp("hosts")) as service:
        yield service


@pytest.fixture
def vendor(running: StandIn) -> Iterator[StandIn]:
    """Without instances or scripted failures; all instances are stopped after the test."""
    running.reset()
    yield running
    running.close()


@pytest.fixture
async def make(vendor: StandIn) -> AsyncIterator[Make]:
    """Creates engines of the fake service, which are stopped after the test."""
    engines: list[VastaiEngine] = []

    def one(clock: Callable[[], float] = time.monotonic, **settings: object) -> VastaiEngine:
        config = config_for(vendor, **settings)
        engine = VastaiEngine(config, delay_scale=0.001, clock=clock)
        engines.append(engine)
        return engine

    yield one
    for engine in engines:
        await engine.stop()
