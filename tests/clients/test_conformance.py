"""Every client finds out the same about one real server: the cases of clients/conformance."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.conformance_servers import Servers, run_events, run_servers
from tests.conftest import ROOT

pytestmark = pytest.mark.clients

CASES: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "clients" / "conformance" / "cases.yaml").read_text()
)
TYPESCRIPT = ROOT / "clients/typescript/dist/conformance.js"
RUNNERS: dict[str, tuple[list[str], Path, list[str]]] = {
    "go": ([], ROOT / ".tools/bin/go-conformance", []),
    "java": ([], ROOT / ".tools/bin/java-conformance", []),
    "rust": ([], ROOT / ".tools/rust/debug/atelier-conformance", []),
    "typescript": (["node"], TYPESCRIPT, []),
    "connect+json": (["node"], TYPESCRIPT, ["connect+json"]),
    "connect+proto": (["node"], TYPESCRIPT, ["connect+proto"]),
    "curl": ([sys.executable], ROOT / "tests/clients/curl_runner.py", []),
    "grpc-web": (["node"], TYPESCRIPT, ["grpc-web"]),
}
"""How to start each, its program, and what comes after the file of cases."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of the cases."""
    with run_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.mark.parametrize("language", RUNNERS)
async def test_a_client_meets_every_case(language: str, servers: Servers, tmp_path: Path) -> None:
    """All of them; what is wrong is shown by the name of the case."""
    start, program, arguments = RUNNERS[language]
    if not program.exists():
        pytest.skip(f"the client in {language} is not built")
    async with run_events(servers) as told:
        file = tmp_path / "cases.json"
        text = json.dumps({"servers": told, "cases": CASES})
        file.write_text(text.replace("$unique", uuid.uuid4().hex))
        ran = await asyncio.to_thread(run, [*start, str(program), str(file), *arguments])
    found = {line["name"]: line["wrong"] for line in map(json.loads, ran.stdout.splitlines())}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}, ran.stderr
    assert list(found) == [case["name"] for case in CASES], ran.stderr


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """What a runner has printed."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_cases_have_names_of_their_own() -> None:
    """There are at least thirty."""
    assert len({case["name"] for case in CASES}) == len(CASES) >= 30
