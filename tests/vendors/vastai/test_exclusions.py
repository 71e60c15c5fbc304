"""Hosts whose instances have failed: not rented from again, over restarts too."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from atelier_engines.vendors.vastai.config import VastaiConfig
from atelier_engines.vendors.vastai.exclusions import Exclusions
from atelier_server.config.load import load
from tests.vendors.vastai.conftest import Make
from tests.vendors.vastai.stand_in import StandIn

DAY = 86400


def test_an_exclusion_outlasts_the_process(tmp_path: Path) -> None:
    """For its time, counted from the failure."""
    first = Exclusions(tmp_path / "engine", seconds=DAY)
    assert 7 not in first
    first.add(7)
    assert 7 in first
    assert 7 in Exclusions(tmp_path / "engine", seconds=DAY)
    assert 7 not in Exclusions(tmp_path / "engine", seconds=0)
    assert 7 not in Exclusions(None, seconds=DAY)


def test_an_old_exclusion_is_forgotten(tmp_path: Path) -> None:
    """Also by the file, once it is written again."""
    path = tmp_path / "excluded-hosts.json"
    now = time.time()
    path.write_text(f'{{"hosts": {{"7": {now - 2 * DAY}, "8": {now}}}}}')
    again = Exclusions(tmp_path, seconds=DAY)
    assert (7 in again, 8 in again) == (False, True)
    again.add(9)
    assert '"7"' not in path.read_text()


@pytest.mark.parametrize("content", [b"", b"{", b'{"hosts": 3}', bytes([255])])
def test_a_damaged_file_excludes_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """And is said; a directory that cannot be written only loses the memory."""
    (tmp_path / "excluded-hosts.json").write_bytes(content)
    assert 7 not in Exclusions(tmp_path, seconds=DAY)
    (tmp_path / "file").touch()
    held = Exclusions(tmp_path / "file", seconds=DAY)
    held.add(7)
    assert 7 in held
    assert {record.message for record in caplog.records} == {
        "vastai_exclusions_not_read",
        "vastai_exclusions_not_written",
    }


async def test_the_next_start_rents_from_another_host(
    vendor: StandIn, make: Make, tmp_path: Path
) -> None:
    """Though the excluded one is the cheapest."""
    Exclusions(tmp_path, seconds=DAY).add(vendor.offers[0]["machine_id"])
    engine = make(state_dir=tmp_path)
    await engine.start()
    (instance,) = vendor.rented
    assert instance.offer["machine_id"] == vendor.offers[1]["machine_id"]
    await engine.stop()


def test_the_server_keeps_it_beside_its_data(tmp_path: Path) -> None:
    """Unless the engine's section names another directory."""
    path = tmp_path / "atelier.yaml"
    path.write_text(
        f"data_dir: {tmp_path}/data\n"
        "engines: {v: {type: vastai, api_key: k, label: l, image: i, max_price_per_hour: 1, spending_cap: 1}}"
    )
    config = load(path).engines["v"].config
    assert isinstance(config, VastaiConfig)
    assert config.state_dir == tmp_path / "data" / "engines" / "v"
