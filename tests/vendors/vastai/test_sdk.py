"""Vast.ai's own SDK works with the fake service, so the fake follows its API; and we send what the SDK sends.

The SDK needs other versions of packages, so it has an environment of its own, which `make test` creates.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from atelier_engines.vendors.vastai import api, schemas
from tests.conftest import ROOT
from tests.vendors.vastai.conftest import config_for
from tests.vendors.vastai.stand_in import KEY, PORT, StandIn

PYTHON = ROOT / ".tools" / "sdk" / "vastai" / "bin" / "python"
SESSION = Path(__file__).with_name("sdk_session.py")
QUERY = (
    "num_gpus=1 gpu_ram>=16 reliability>=0.98 direct_port_count>=1 inet_down>=200 cuda_max_good>=12.4 "
    "disk_space>=40 dph<=1 gpu_name in [RTX_4090,L40S] rented=False"
)
ENV = f"-p {PORT}:{PORT}"


@pytest.mark.skipif(not PYTHON.exists(), reason="`make sdks` has not been run")
def test_the_sdk_searches_rents_and_destroys_as_we_do(vendor: StandIn) -> None:
    """The same filters, units, order and pages; `ports` is in no type of the SDK, only in its code."""
    vendor.fates[1] = {"dead": True}
    program = [str(PYTHON), str(SESSION), vendor.api, KEY, QUERY, ENV]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["offers"] == [1, 2, 3]
    assert told["states"] == [None, "loading", "running"]
    (instance,) = vendor.rented
    assert told["listed"] == [instance.id]
    assert told["destroyed"]["success"]
    assert vendor.instances == {}
    assert instance.order["env"] == {ENV: "1"}
    (searched,) = vendor.queries
    config = config_for(vendor, gpu_names=["RTX_4090", "L40S"], disk_gb=40, args=["serve"])
    assert as_numbers(searched) == as_numbers(api.build_query(config))
    ours = api.build_request(config, "tests/1", {})
    assert {name: instance.order.get(name) for name in ours} == ours | {
        "cancel_unavail": False,  # we would rather have no instance than wait for one
        "target_state": None,  # as above: the SDK leaves it to the service
    }
    check_names({kind: set(found) for kind, found in told["names"].items()}, vendor)


def check_names(names: dict[str, set[str]], vendor: StandIn) -> None:
    """What we send, and what we read, has the names of the SDK's own types."""
    controls = {"type", "order", "limit", "allocated_storage"}
    config = config_for(vendor, gpu_names=["L40S"])
    assert api.build_query(config).keys() - controls <= names["filters"]
    for chosen in (config, config_for(vendor, template="hash", image="")):
        assert api.build_request(chosen, "label", {}).keys() <= names["order"]
    assert schemas.Offer.model_fields.keys() <= names["offer"]
    assert schemas.CreateResponse.model_fields.keys() - {"error", "msg"} <= names["created"]
    assert schemas.Instance.model_fields.keys() - {"ports"} <= names["instance"]


def as_numbers(query: Any) -> Any:  # noqa: ANN401 (JSON)
    """The query with numbers for texts that are numbers: the SDK sends those that have no unit as text."""
    if isinstance(query, dict):
        return {name: as_numbers(value) for name, value in query.items()}
    if isinstance(query, list):
        return [as_numbers(value) for value in query]
    try:
        return float(query)
    except ValueError:
        return query


def test_the_names_of_gpus_may_be_those_of_the_command(vendor: StandIn) -> None:
    """With underscores no offer would match, and an empty list is no error."""
    query = api.build_query(config_for(vendor, gpu_names=["RTX_4090", "L40S"]))
    assert query["gpu_name"] == {"in": ["RTX 4090", "L40S"]}
