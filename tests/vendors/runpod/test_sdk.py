"""RunPod's own SDK works against the stand-in: so the stand-in speaks as RunPod does.

The SDK brings about a hundred packages and a version of cryptography that other SDKs exclude, so the tests do
not install it: this file is run where somebody has.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.vendors.graphs import checking
from tests.vendors.runpod.stand_in import ENDPOINT, KEY, STATES, StandIn

runpod = pytest.importorskip("runpod")

GRAPH: dict[str, dict[str, Any]] = {
    "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 72}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}


@pytest.fixture
def endpoint(vendor: StandIn, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 (ships no types)
    """The SDK's endpoint; where it speaks to is a constant of its own, so that is what is changed."""
    monkeypatch.setattr(runpod, "endpoint_url_base", vendor.api)
    return runpod.Endpoint(ENDPOINT, api_key=KEY)


def test_the_sdk_runs_follows_and_fetches(
    vendor: StandIn,
    endpoint: Any,  # noqa: ANN401
) -> None:
    """States and output come as it wants them."""
    job = endpoint.run({"input": {"workflow": GRAPH}, "policy": {"ttl": 60_000}})
    assert [job.status() for _ in STATES] == list(STATES)
    (image,) = job.output()["images"]
    assert image["type"] == "base64"
    (known,) = vendor.jobs.values()
    assert known.body["policy"] == {"ttl": 60_000}
    assert vendor.drawn(known) == checking.drawn(GRAPH, {})


def test_the_sdk_cancels(vendor: StandIn, endpoint: Any) -> None:  # noqa: ANN401
    """Then the job is cancelled."""
    job = endpoint.run({"input": {"workflow": GRAPH}})
    assert job.cancel()["status"] == "CANCELLED"
    (known,) = vendor.jobs.values()
    assert known.cancels == 1


def test_the_sdk_asks_for_health(endpoint: Any) -> None:  # noqa: ANN401
    """Jobs and workers."""
    assert endpoint.health()["workers"]["running"] == 1


def test_the_sdk_understands_a_bad_key(endpoint: Any) -> None:  # noqa: ANN401
    """As such."""
    stranger = type(endpoint)(ENDPOINT, api_key="a-wrong-key")
    with pytest.raises(RuntimeError, match=r"401|Unauthorized"):
        stranger.run({"input": {"workflow": GRAPH}})
