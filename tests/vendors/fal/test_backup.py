"""The second domain of fal's queue, and what fal says about repeating a request."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fal_client import client as sdk

from atelier_engines.conformance.fake_server import drop_connection, respond
from atelier_engines.conformance.remote_service import collect_events, collect_outputs
from atelier_engines.errors import EngineError, EngineTimeoutError, EngineUnavailableError
from atelier_engines.vendors.fal.config import FalConfig
from tests.vendors.calls import plain
from tests.vendors.fal.stand_in import KEY, TASK, StandIn


@pytest.fixture
def unreachable() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


async def test_what_cannot_be_sent_goes_to_the_second_domain(
    vendor: StandIn, unreachable: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Submitted once, and polled there; the log says so."""
    with caplog.at_level(logging.WARNING):
        made = await collect_outputs(vendor, base_url=unreachable, backup_url=vendor.queue)
    assert len(made) == 1
    assert vendor.accepted == 1
    assert "fal_backup_used" in caplog.messages


async def test_what_was_sent_is_not_sent_to_the_second_domain(vendor: StandIn) -> None:
    """A connection that broke afterwards may have been a paid job."""
    vendor.submits.add(drop_connection)
    with pytest.raises(EngineError, match="may have been accepted"):
        await collect_events(vendor, backup_url=vendor.queue.replace("127.0.0.1", "localhost"))
    assert vendor.accepted == 0


async def test_without_a_second_domain_it_cannot_be_reached(
    vendor: StandIn, unreachable: str
) -> None:
    """Nor where the second one does not answer either."""
    for backup in (None, unreachable):
        with pytest.raises(EngineUnavailableError, match="cannot be reached"):
            await collect_events(vendor, base_url=unreachable, backup_url=backup)


def test_the_domains_are_those_of_the_sdk() -> None:
    """The second one for the first, and none for others."""
    config = FalConfig.model_validate({"api_key": KEY})
    (backup,) = (sdk._BACKUP_DOMAINS[host] for host in ["queue.fal.run"])
    assert config.base_url == sdk.QUEUE_URL_FORMAT.rstrip("/")
    assert config.second_url == f"https://{backup}"
    assert (config.rest_url, config.storage_url) == (sdk.REST_URL, sdk.CDN_URL)
    other = FalConfig.model_validate({"api_key": KEY, "base_url": "https://fal.example"})
    assert other.second_url is None


async def test_priority_and_lifetime_are_said_in_headers(vendor: StandIn) -> None:
    """Of the job, and of every upload."""
    task = replace(TASK, init_image=plain(256, 264, 7))
    await collect_events(vendor, task, image_transfer="hosted", priority="low", expire_seconds=600)
    (job,) = vendor.jobs.values()
    assert job.headers["x-fal-queue-priority"] == "low"
    assert vendor.lifecycles == [json.dumps({"expiration_duration_seconds": 600})]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (504, {"x-fal-request-timeout-type": "user"}),
        (503, {"x-fal-retryable": "false"}),
        (503, {"x-fal-needs-retry": "False"}),
    ],
)
async def test_what_the_service_calls_final_is_not_repeated(
    vendor: StandIn, status: int, headers: dict[str, str]
) -> None:
    """Whatever the status alone would mean."""
    vendor.results.add(respond(status, {"detail": "no"}, **headers))
    with pytest.raises(EngineTimeoutError, match="cannot be fetched"):
        await collect_events(vendor)
