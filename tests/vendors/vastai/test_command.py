"""The official command line against the fake service, which therefore speaks the real protocol.

`vastai` needs other versions of packages, so it has an environment of its own, which `make test` creates.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.vendors.vastai.stand_in import KEY, PORT, StandIn

VASTAI = ROOT / ".tools" / "sdk" / "vastai" / "bin" / "vastai"
pytestmark = pytest.mark.skipif(not VASTAI.exists(), reason="`make sdks` has not been run")


def vastai(vendor: StandIn, home: Path, *arguments: str) -> Any:  # noqa: ANN401 (its JSON)
    """The JSON output of the command."""
    program = ["/usr/bin/env", f"HOME={home}", str(VASTAI), *arguments]
    options = ["--url", vendor.api, "--api-key", KEY, "--raw", "--retry", "1"]
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout or "null")


def test_the_command_rents_and_destroys(vendor: StandIn, tmp_path: Path) -> None:
    """Search, create, show, list and destroy."""
    vendor.fates[1] = {"dead": True}
    offers = vastai(vendor, tmp_path, "search", "offers", "gpu_ram>=16 dph<1")
    assert [offer["id"] for offer in offers] == [1, 2, 3]
    order = [
        "--image",
        "atelier:1",
        "--disk",
        "40",
        "--label",
        "tests/1",
        "--env",
        f"-p {PORT}:{PORT}",
    ]
    created = vastai(vendor, tmp_path, "create", "instance", "1", *order)
    assert created["success"]
    instance = vendor.instances[created["new_contract"]]
    assert instance.order["env"] == {f"-p {PORT}:{PORT}": "1"}
    assert instance.order["label"] == "tests/1"
    states = [
        vastai(vendor, tmp_path, "show", "instance", str(instance.id))["actual_status"]
        for _ in range(3)
    ]
    assert states == [None, "loading", "running"]
    assert [one["id"] for one in vastai(vendor, tmp_path, "show", "instances")] == [instance.id]
    vastai(vendor, tmp_path, "destroy", "instance", str(instance.id), "-y")
    assert vendor.instances == {}
