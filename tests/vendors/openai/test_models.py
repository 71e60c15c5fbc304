"""Models of OpenAI: which exist, which sizes they make, and which were shut down."""

from __future__ import annotations

import logging
from datetime import date
from typing import get_args

import pytest
from openai.types import ImageModel
from pydantic import ValidationError

from atelier_engines.conformance.remote_service import collect_events, run_engine
from atelier_engines.errors import EngineFailedError
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.models import MODELS, SHUTDOWNS, find_shutdown
from tests.vendors.openai.stand_in import KEY, StandIn, failing

OTHER = "https://images.example/v1"


def test_the_models_are_those_that_the_sdk_lists() -> None:
    """Each is in our table, or was shut down; none of ours is unknown to the SDK but dated names of listed ones."""
    listed, ours = set(get_args(ImageModel)), MODELS.keys() | SHUTDOWNS.keys()
    assert listed <= ours
    assert {name for name in ours - listed if name.rpartition("-20")[0] not in listed} == set()


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_a_model_that_was_shut_down_is_refused_with_its_successor(model: str) -> None:
    """At the start, not when the first task comes."""
    with pytest.raises(ValidationError, match=r"shut .* down on 2026-.*; use gpt-image-2\.6"):
        OpenaiConfig.model_validate({"api_key": KEY, "model": model})


def test_a_service_with_the_same_api_may_name_its_models_so() -> None:
    """Names say nothing about other services."""
    config = OpenaiConfig.model_validate({"api_key": KEY, "model": "dall-e-3", "base_url": OTHER})
    assert not config.any_size


def test_an_announced_end_comes_on_its_day() -> None:
    """The day before, the model works."""
    assert find_shutdown("gpt-image-1.5", date(2026, 11, 30)) is None
    assert find_shutdown("gpt-image-1.5", date(2026, 12, 1)) is not None
    assert find_shutdown("gpt-image-2", date(2036, 1, 1)) is None


@pytest.mark.parametrize(
    ("settings", "any_size"),
    [
        ({"model": "gpt-image-2"}, True),
        ({"model": "gpt-image-2.6-flare"}, True),
        ({"model": "gpt-image-2.5-sunburst-2026-09-08"}, True),
        ({"model": "gpt-image-2", "sizes": "fixed"}, False),
        ({"model": "chatgpt-image-latest", "base_url": OTHER}, False),
        ({"model": "gpt-image-9"}, False),
        ({"model": "gpt-image-9", "sizes": "any"}, True),
    ],
)
def test_sizes_are_those_of_the_model_unless_configured(
    settings: dict[str, object], *, any_size: bool
) -> None:
    """An unknown model has the sizes that all have."""
    config = OpenaiConfig.model_validate({"api_key": KEY, **settings})
    assert config.any_size == any_size


async def test_a_model_that_is_gone_is_named_with_its_successor(vendor: StandIn) -> None:
    """Where a server outlives its model."""
    gone = failing(404, "model_not_found", "gone")
    vendor.submits.add(gone)
    with pytest.raises(
        EngineFailedError, match=r"gone; OpenAI shut .* 2026-12-01; use gpt-image-2"
    ):
        await collect_events(vendor, model="gpt-image-1.5")


async def test_an_announced_end_is_logged_once(
    vendor: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """The description of the model names the day."""
    vendor.shutdown_date = "2026-12-01"
    with caplog.at_level(logging.WARNING):
        async with run_engine(vendor) as engine:
            await engine.check()
            await engine.check()
    (record,) = [one for one in caplog.records if one.message == "openai_model_ends"]
    assert vars(record)["date"] == "2026-12-01"
