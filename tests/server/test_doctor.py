"""`atelier doctor` as a user runs it: what is missing, the command that mends it, and the exit code."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.client.atelier_command import atelier
from tests.conftest import SKETCH, RunningServer, free_port

KEY = "bfl-secret-1234"


@dataclass(frozen=True, slots=True)
class Examined:
    """What the command found, by subject."""

    code: int
    out: str
    findings: dict[str, list[dict[str, Any]]]

    def failed(self) -> set[str]:
        """The subjects of all failures."""
        return {
            subject
            for subject, found in self.findings.items()
            if any(one["level"] == "failure" for one in found)
        }


async def examine(
    folder: Path, variables: Mapping[str, str] | None = None, **config: object
) -> Examined:
    """Run the command on a configuration that is valid but for what is given."""
    settings = {
        "engines": SKETCH,
        "listen": f"127.0.0.1:{free_port()}",
        "metrics": None,
        "data_dir": str(folder / "data"),
        **config,
    }
    path = folder / "atelier.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = ("doctor", "--json", "--config", path)
    ended = await atelier(*command, **(variables or {}))  # type: ignore[arg-type]  # none is called cwd
    findings: dict[str, list[dict[str, Any]]] = {}
    for line in ended.out.splitlines():
        found = json.loads(line)
        findings.setdefault(found["subject"], []).append(found)
        assert (found["remedy"] == "") == (found["level"] == "ok")
    return Examined(ended.code, ended.out + ended.err, findings)


async def test_a_machine_that_lacks_nothing(tmp_path: Path) -> None:
    """Every subject is fine, the exit code is 0, and nothing was made."""
    found = await examine(tmp_path)
    assert found.code == 0, found.out
    assert {"python", "packages", "listen", "data_dir", "engine sketch"} <= found.findings.keys()
    assert not (tmp_path / "data").exists()


async def test_the_page_for_people_has_remedies(tmp_path: Path) -> None:
    """One line for each finding, and the remedy under it."""
    path = tmp_path / "atelier.yaml"
    path.write_text("engines: {art: {type: bfl, api_key: '${NO_SUCH_KEY}'}}")
    ended = await atelier("doctor", "--config", path)
    assert ended.code == 1
    assert "NO_SUCH_KEY" in ended.out
    assert "→" in ended.out
    assert ended.out.startswith("ok       python")


async def test_an_address_in_use(tmp_path: Path, server: RunningServer) -> None:
    """By another program, which is a failure; or by a server of ours, which is none."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        metrics = await examine(tmp_path, metrics=address)
    assert (metrics.code, metrics.failed()) == (1, {"metrics"})
    assert "--metrics" in metrics.findings["metrics"][0]["remedy"]
    ours = await examine(tmp_path, listen=server.address)
    assert ours.code == 0
    assert "a server of version" in ours.findings["listen"][0]["text"]


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """Here because a file is in its way."""
    (tmp_path / "file").touch()
    found = await examine(tmp_path, data_dir=str(tmp_path / "file" / "data"))
    assert found.failed() == {"data_dir"}


async def test_settings_that_will_surprise_are_warned_of(tmp_path: Path) -> None:
    """Such as files in a directory of one server, where several can share the database."""
    store = {"type": "postgres", "dsn": "postgresql://me@127.0.0.1/it"}
    found = await examine(tmp_path, store=store)
    assert found.code == 0, found.out
    (warned,) = found.findings["artifacts.type"]
    assert (warned["level"], "artifacts.type: s3" in warned["remedy"]) == ("warning", True)


async def test_remote_engines_are_asked(tmp_path: Path, server: RunningServer) -> None:
    """One that answers, and one that does not; keys are counted and never printed."""
    engines = {
        "other": {"type": "atelier", "address": server.address, "engine": "sketch"},
        "art": {"type": "bfl", "api_key": "${KEY}", "base_url": f"http://127.0.0.1:{free_port()}"},
    }
    found = await examine(tmp_path, variables={"KEY": KEY}, engines=engines)
    assert (found.code, found.failed()) == (1, {"engine art"})
    assert "answered in" in found.findings["engine other"][0]["text"]
    assert "1 key set" in found.findings["engine art"][0]["text"]
    assert KEY not in found.out


async def test_an_engine_that_costs_money_is_not_started(tmp_path: Path) -> None:
    """Starting this one rents a machine."""
    rented = {
        "type": "vastai",
        "api_key": KEY,
        "base_url": f"http://127.0.0.1:{free_port()}",
        "label": "here",
        "max_price_per_hour": 1.0,
        "spending_cap": 1.0,
        "image": "atelier:1",
    }
    found = await examine(tmp_path, engines={"rented": rented, **SKETCH})
    assert found.code == 0, found.out
    assert "not started" in found.findings["engine rented"][0]["text"]


@pytest.mark.parametrize("driver", ["none", "old"])
async def test_weights_and_the_driver_of_a_local_engine(driver: str, tmp_path: Path) -> None:
    """Weights that are missing name the command that gets them; a driver that PyTorch cannot use is told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    if driver == "old":
        smi = programs / "nvidia-smi"
        smi.write_text(
            "#!/bin/sh\n"
            'case "$1" in --query-gpu*) echo "NVIDIA T4, 450.1, 15360 MiB, 15000 MiB";;\n'
            ' *) echo "| Driver Version: 450.1   CUDA Version: 11.0 |";; esac\n'
        )
        smi.chmod(0o755)
    engines = {"big": {"type": "diffusion", "model": str(tmp_path / "none.safetensors")}}
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""}
    found = await examine(tmp_path, variables=environment, engines=engines)
    assert found.code == 1
    (weights,) = found.findings["engine big"]
    assert weights["remedy"] == f"atelier models pull --config {tmp_path}/atelier.yaml big"
    (torch,) = found.findings["pytorch"]
    if driver == "none":
        assert torch["level"] == "ok"
        assert "on the CPU" in torch["text"]
    else:
        assert found.findings["gpu"][0]["text"].startswith("NVIDIA T4")
        assert "cannot use the GPU" in torch["text"]


async def test_compiling_needs_a_compiler(tmp_path: Path) -> None:
    """Which the doctor misses before a start does."""
    engines = {"tiny": {"type": "diffusion", "device": "cpu", "compile": "regions"}}
    examined = await examine(tmp_path, {"PATH": "/nowhere"}, engines=engines)
    assert examined.code == 1
    (found,) = [one for one in examined.findings["engine tiny"] if one["level"] == "failure"]
    assert found["text"] == "compile needs a C++ compiler, and there is none"
    assert "apt-get install g++" in found["remedy"]
