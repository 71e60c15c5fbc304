"""What the pages show in a shell is run in one: line by line, in the order of the page, against the real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier_server.config.load import default_engines
from tests.client.atelier_command import ATELIER, PLAIN
from tests.conftest import ROOT, RunningServer, free_port, launch
from tests.documented_commands import PAGES, ShownLine, find_lines
from tests.grpcurl.conftest import GRPCURL
from tests.server.http_calls import address_of

GHZ = ROOT / ".tools" / "bin" / "ghz"
_TOOLS = ROOT / "docs" / "grpc-tools.md"
_ADDRESS = "localhost:50051"
_HTTP = "localhost:8080"
_SERVE = re.compile(r"(atelier serve\b[^;&|]*)$")
_NOT_RUN: Mapping[str, str] = {
    "atelier tune": "measures for minutes",
    "atelier serve --config comfy.yaml": "wants a ComfyUI",
    "--engine comfy": "wants a ComfyUI",
    "--engine tango": "wants weights of 4 GB",
    "-authority atelier.atelier.svc": "wants a cluster",
    "--role": "wants a PostgreSQL server and a bucket; examples/cluster has both",
    "--control depth": "wants a ControlNet of 2.5 GB",
}
_ELSEWHERE = ("lightning", "studio")
"""Engines of pages whose services are not here: their requests are read, not sent."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The engines of a server without configuration, and those of the pages about upscaling and audio."""
    engines = {**default_engines(), "upscale": {"type": "upscale"}, "voice": {"type": "speech"}}
    http = f"127.0.0.1:{free_port()}"
    running = launch(tmp_path_factory.mktemp("served"), engines=engines, http=http)
    yield running
    running.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands run, with the files that they name."""
    (tmp_path / "prompt.txt").write_text("a red apple\n")
    (tmp_path / "prompts.csv").write_text("prompt,seed\na red apple,1\na green apple,2\n")
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    for name in ("edges.png", "photo.png", "small.png"):
        Image.new("RGB", (64, 64), "white").save(tmp_path / name)
    return tmp_path


def _environment(folder: Path, server: RunningServer) -> dict[str, str]:
    programs = f"{ATELIER.parent}:{GRPCURL.parent}:{os.environ['PATH']}"  # noqa: TID251 - the shell's own
    return PLAIN | {"PATH": programs, "HOME": str(folder), "ATELIER_SERVER": server.address}


def _is_run(line: ShownLine) -> bool:
    if any(words in line.text for words in _NOT_RUN):
        return False
    if line.calls("grpcurl"):
        return GRPCURL.exists() and not any(f'"{name}"' in line.text for name in _ELSEWHERE)
    if line.calls("ghz"):
        return GHZ.exists()
    if line.calls("buf"):
        return _ADDRESS in line.text or _HTTP in line.text
    if line.calls("curl"):
        return shutil.which("curl") is not None and _HTTP in line.text
    return line.calls("atelier")


_OTHER_TEST = ("security.md",)
"""Pages whose commands are run by tests of their own, in the order that they need."""
RUN = {
    page: lines
    for page in PAGES
    if page.name not in _OTHER_TEST and (lines := [one for one in find_lines(page) if _is_run(one)])
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_what_a_page_shows_works(page: Path, served: RunningServer, folder: Path) -> None:
    """Every line ends well; a server that it starts begins to serve, and stops at Ctrl-C."""
    environment = _environment(folder, served)
    if not any("atelier init" in line.text for line in RUN[page]):
        engines = {"tiny": {"type": "diffusion"}}
        (folder / "atelier.yaml").write_text(json.dumps({"engines": engines}))
    for line in RUN[page]:
        command = line.text.replace(_ADDRESS, served.address)
        command = command.replace(_HTTP, address_of(served))
        if re.search(r"\bID\b", command):
            command = re.sub(r"\bID\b", "@last", command) + " --force" * ("-o " in command)
        if serve := _SERVE.search(command):
            _run(command[: serve.start()], folder, environment)
            _serve(serve[1], folder, environment)
        else:
            _run(command, folder, environment)


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    ran = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    missing = "atelier doctor" in command and ran.returncode == 1  # it tells what is not here
    assert missing or ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    assert "Error distribution" not in ran.stdout, f"{command}\n{ran.stdout}"  # ghz ends with 0


def _serve(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Start a server on ports of its own, and end it once it serves."""
    ports = f" --listen 127.0.0.1:{free_port()} --metrics 127.0.0.1:{free_port()}"
    if "--http" in command:
        ports += f" --http 127.0.0.1:{free_port()}"
    with subprocess.Popen(
        ["/usr/bin/env", "--default-signal=INT", *shlex.split(command + ports)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if '"server_started"' in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0, "".join(told)


def test_requests_to_engines_that_are_not_here_are_requests() -> None:
    """Their JSON names fields of the contract."""
    shown = [
        line.text
        for page in PAGES
        for line in find_lines(page)
        if line.calls("grpcurl") and any(f'"{name}"' in line.text for name in _ELSEWHERE)
    ]
    assert len(shown) == len(_ELSEWHERE)
    for text in shown:
        words = shlex.split(text)
        message = (
            pb.GenerateRequest if words[-1].endswith("/Generate") else pb.StreamProgressRequest
        )
        Parse(words[words.index("-d") + 1], message())


@pytest.mark.skipif(not GHZ.exists(), reason="there is no ghz: `make ghz` builds it with Go")
def test_a_page_shows_how_to_put_load_on_the_server() -> None:
    """On a call that does nothing, and on one that draws; without ghz, the page runs without them."""
    calls = [word for line in RUN[_TOOLS] if line.calls("ghz") for word in line.text.split()]
    assert {"atelier.v1.GenerationService.Health", "atelier.v1.GenerationService.Generate"} <= {
        *calls
    }


def test_the_readme_shows_how_to_use_grpcurl() -> None:
    """At least: what there is, a picture, and its progress."""
    shown = " ".join(line.text for line in find_lines(PAGES[0]) if line.calls("grpcurl"))
    assert all(what in shown for what in (" list", "/Generate", "/StreamProgress"))
