"""Every grpcurl command in README.md works as it stands there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from atelier_server.config.load import default_engines
from tests.conftest import ROOT, RunningServer, launch
from tests.grpcurl.conftest import needs_grpcurl, run_grpcurl

pytestmark = needs_grpcurl

_README = ROOT / "README.md"
_ADDRESS = "localhost:50051"
_WEIGHTS = ROOT / "models" / "tiny" / "atelier_tiny" / "weights"


def commands() -> list[str]:
    """The grpcurl commands of all fenced sh blocks, lines that go on joined."""
    if not _README.exists():
        return []
    blocks = re.findall(r"^```sh\n(.*?)^```", _README.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.lstrip("$ ").startswith("grpcurl ")]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the engines of one that was given no configuration; `tiny` only with its weights."""
    trained = any(_WEIGHTS.rglob("*.safetensors"))
    engines = {name: dict(engine) for name, engine in default_engines().items()}
    if not trained:
        del engines["tiny"]
    running = launch(tmp_path_factory.mktemp("embedded"), engines=engines)
    yield running
    running.kill()


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_works(embedded: RunningServer, command: str) -> None:
    """It ends well and prints something."""
    if '"tiny"' in command and not any(_WEIGHTS.rglob("*.safetensors")):
        pytest.skip("the tiny model's weights are not here: `make tiny-train` makes them")
    assert _ADDRESS in command
    _, *arguments = shlex.split(command.lstrip("$ ").replace(_ADDRESS, embedded.address))
    ran = run_grpcurl(arguments)
    assert ran.status == 0, ran.error
    assert ran.text.strip()


def test_the_readme_shows_how_to_use_grpcurl() -> None:
    """At least: what there is, a picture, and its progress."""
    shown = " ".join(commands())
    assert all(what in shown for what in (" list", "/Generate", "/StreamProgress"))
