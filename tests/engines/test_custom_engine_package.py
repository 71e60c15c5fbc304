"""The example of a third party's engine: built, installed beside the server, tested, and asked for a picture."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import ROOT, StartServer
from tests.server.calls import image_request

PACKAGE = ROOT / "examples" / "custom-engine"
UV = ROOT / ".tools" / "uv" / "bin" / "uv"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, as its wheel lays it out; nothing is fetched for that."""
    if not UV.exists():
        pytest.skip("uv is not here: make install")
    source = tmp_path_factory.mktemp("source") / "custom-engine"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [
        UV,
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run(
        [*command, "--python", sys.executable, "--target", target, source], check=True, timeout=300
    )
    return target


def test_pip_installs_it_as_documented(tmp_path: Path) -> None:
    """With the pip of the environment that `make install` makes; what is in there is enough for it."""
    page = (ROOT / "docs" / "writing-an-engine.md").read_text()
    assert "\n.venv/bin/pip install ./examples/custom-engine\n" in page
    source = tmp_path / "examples" / "custom-engine"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(tmp_path / ".venv")
    (packages,) = tmp_path.glob(".venv/lib/*/site-packages")
    here = sysconfig.get_paths()["purelib"]
    (packages / "all.pth").write_text(f"import site; site.addsitedir({here!r})")
    python = tmp_path / ".venv" / "bin" / "python"
    offline = ["PIP_NO_INDEX=1", "PIP_NO_BUILD_ISOLATION=0"]  # pip reads 0 as: no isolation
    subprocess.run(
        ["/usr/bin/env", *offline, python, "-m", "pip", "install", "./examples/custom-engine"],
        check=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert list(packages.glob("atelier_stripes-*.dist-info"))


def test_the_package_holds_the_module_and_its_entry_point_alone(site: Path) -> None:
    """No tests are installed, and nothing else that others would import by accident."""
    assert sorted(path.name for path in site.glob("*.py")) == ["atelier_stripes.py"]
    (entry_points,) = site.glob("atelier_stripes-*.dist-info/entry_points.txt")
    assert "stripes = atelier_stripes:ENGINE" in entry_points.read_text()


def test_it_passes_the_suite_for_all_engines(site: Path) -> None:
    """Its own tests, against what was installed."""
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        PACKAGE / "tests",
    ]
    done = subprocess.run(
        ["/usr/bin/env", f"PYTHONPATH={site}", "PYTHONDONTWRITEBYTECODE=1", *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


async def test_a_server_finds_it_and_draws_with_it(start_server: StartServer, site: Path) -> None:
    """Installing it is all; the server is told its name in the configuration and nothing more."""
    server = start_server(
        environment={"PYTHONPATH": str(site)},
        engines={"bands": {"type": "stripes", "stripe_pixels": 24}},
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        known = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert [(engine.name, engine.type) for engine in known.engines] == [("bands", "stripes")]
        task = {"width": 72, "height": 40, "seed": 7, "steps": 3}
        made = await stub.Generate(
            image_request("dusk", engine="bands", inline_outputs=True, task=task)
        )
    (output,) = made.generation.outputs
    assert (output.artifact.image_size.width, output.artifact.image_size.height) == (72, 40)
    assert output.seed == 7
