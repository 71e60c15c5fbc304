"""RunPod's own SDK works with the fake service, so the fake follows RunPod's API.

The SDK wants other versions than we do, so it has an environment of its own, which `make test` makes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from atelier_engines.vendors.jobs import JobState
from atelier_engines.vendors.runpod import endpoint_api
from tests.conftest import ROOT
from tests.vendors.comfy_workflows import checking
from tests.vendors.runpod.stand_in import ENDPOINT, KEY, STATES, StandIn

PYTHON = ROOT / ".tools" / "sdk" / "runpod" / "bin" / "python"
SESSION = Path(__file__).with_name("sdk_session.py")
GRAPH: dict[str, dict[str, Any]] = {
    "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 72}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}


@pytest.mark.skipif(not PYTHON.exists(), reason="`make sdks` has not been run")
async def test_the_sdk_runs_cancels_asks_and_is_refused(vendor: StandIn) -> None:
    """Statuses, output, health and errors have the shape that the SDK expects."""
    session = await asyncio.create_subprocess_exec(
        PYTHON,
        SESSION,
        vendor.api,
        ENDPOINT,
        KEY,
        json.dumps(GRAPH),
        " ".join(endpoint_api.STATES),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await session.communicate()
    answer = json.loads(output.splitlines()[-1])
    assert answer["states"] == list(STATES)
    final = {name for name, state in endpoint_api.STATES.items() if state is not JobState.ACTIVE}
    assert set(answer["final"]) == final
    (image,) = answer["output"]["images"]
    assert image["type"] == "base64"
    done, cancelled = vendor.jobs.values()
    assert done.body["policy"] == {"ttl": 60_000}
    assert vendor.drawn(done) == checking.generate(GRAPH, {})
    assert (answer["cancelled"], cancelled.cancels) == ("CANCELLED", 1)
    assert answer["health"]["workers"]["running"] == 1
    assert "401" in answer["refusal"] or "Unauthorized" in answer["refusal"]
