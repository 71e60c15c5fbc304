"""Replicate's own SDK works with the fake service, so the fake follows Replicate's API.

The SDK has an environment of its own, which `make test` makes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from atelier_engines.vendors.replicate.predictions_api import STAGES, STATES, Prediction
from tests.conftest import ROOT
from tests.vendors.replicate.models import MODELS, SCHNELL, SDXL, SDXL_VERSION
from tests.vendors.replicate.stand_in import KEY, NSFW_ERROR, StandIn
from tests.vendors.replicate.stand_in import STATES as SCRIPT

PYTHON = ROOT / ".tools" / "sdk" / "replicate" / "bin" / "python"
SESSION = Path(__file__).with_name("sdk_session.py")


@pytest.mark.skipif(not PYTHON.exists(), reason="`make sdks` has not been run")
async def test_the_sdk_reads_runs_uploads_cancels_and_is_refused(vendor: StandIn) -> None:
    """Schemas, statuses, progress, outputs, files and errors have the shape that the SDK expects.

    The SDK does not know `data_removed` and `aborted`, which the service has added later.
    """
    session = await asyncio.create_subprocess_exec(
        PYTHON, SESSION, vendor.api, KEY, SDXL, SDXL_VERSION, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await session.communicate()
    told = json.loads(output.splitlines()[-1])
    assert set(Prediction.model_fields) - {"data_removed"} <= set(told["fields"])
    assert {*told["statuses"], "aborted"} == {*STATES, *STAGES}
    assert (told["account"], told["latest"]) == ("acme", SDXL_VERSION)
    assert told["inputs"] == list(MODELS[SDXL].properties)
    assert told["states"] == ["starting", *(status for status, _ in SCRIPT)]
    assert told["steps"] == [0, 0, 0, 1, 3, 3]
    followed, stopped, by_version, official, refused = vendor.jobs
    assert told["output"] == [f"{vendor.media}/xezq/{followed}/out-0.png"]
    assert told["urls"] == ["cancel", "get", "web"]
    assert told["cancelled"] == "canceled"
    assert vendor.jobs[stopped].cancelled
    assert vendor.jobs[followed].headers["prefer"] == "wait=1"
    assert told["files"] == [f"{vendor.media}/xezq/{by_version}/out-0.png"]
    assert vendor.read_file(vendor.jobs[by_version].body["image"]) == b"an image"
    assert vendor.jobs[official].model == SCHNELL
    assert told["official"] == [f"{vendor.media}/xezq/{official}/out-0.png"]
    assert told["failure"] == NSFW_ERROR
    assert vendor.jobs[refused].polls > 0
    unauthenticated, invalid, unknown = told["refusals"]
    assert unauthenticated[:2] == [401, "Unauthenticated"]
    assert invalid[:2] == [422, "Input validation failed"]
    assert "input.num_outputs" in invalid[2]
    assert unknown[:2] == [422, "Invalid version or not permitted"]
