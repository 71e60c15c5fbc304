"""The built distributions, installed into empty environments and used outside the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from atelier_client import Client
from atelier_client.errors import AtelierError
from tests.client.atelier_command import PLAIN
from tests.conftest import ROOT, START_SECONDS, STOP_SECONDS, free_port

pytestmark = pytest.mark.dist

UV = ROOT / ".tools" / "uv" / "bin" / "uv"
NAMES = ("atelier_client", "atelier_engines", "atelier_server", "atelier_tiny")
USER = ROOT / "tests" / "typed_user.py"
CUSTOM_ENGINE = ROOT / "examples" / "custom-engine" / "atelier_stripes.py"


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; a failure shows all of it."""
    ended = subprocess.run(
        command, cwd=cwd, env=PLAIN, capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` builds: each wheel from its sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("make", "dist", f"DIST={folder}", cwd=ROOT)
    return folder


Install = Callable[..., None]


@contextmanager
def environment(folder: Path) -> Iterator[tuple[Path, Install]]:
    """An empty environment, and a function that installs into it."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
    python = folder / "bin" / "python"

    def install(*arguments: str | Path) -> None:
        run(UV, "pip", "install", "--quiet", "--python", python, *arguments, cwd=folder.parent)

    yield folder / "bin", install


def wheels(dist: Path, *names: str) -> list[Path]:
    """The wheels of some distributions."""
    return [next(dist.glob(f"{name}-*.whl")) for name in names]


@pytest.fixture(scope="module")
def gateway(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the server, as locked for a gateway."""
    with environment(tmp_path_factory.mktemp("gateway") / "venv") as (programs, install):
        install("--require-hashes", "--requirement", ROOT / "requirements" / "gateway.txt")
        install("--no-deps", *wheels(dist, *NAMES[:3]))
    return programs


@pytest.fixture(scope="module")
def client_only(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with the client and what it depends on."""
    with environment(tmp_path_factory.mktemp("client") / "venv") as (programs, install):
        lock = ROOT / "requirements" / "dev.txt"
        install("--constraints", lock, *wheels(dist, "atelier_client"))
    return programs


@pytest.fixture(scope="module")
def local(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of an environment with everything; other packages are those of this one, which are many and large."""
    with environment(tmp_path_factory.mktemp("local") / "venv") as (programs, install):
        install("--no-deps", *wheels(dist, *NAMES))
        (packages,) = programs.parent.glob("lib/*/site-packages")
        (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    return programs


def test_the_server_brings_the_page_along(dist: Path) -> None:
    """The playground is built where Node is, and is no part of the repository."""
    if shutil.which("npm") is None:
        pytest.skip("no Node here: the page is not built")
    with zipfile.ZipFile(wheels(dist, "atelier_server")[0]) as wheel:
        names = wheel.namelist()
    assert "atelier_server/playground/index.html" in names
    assert any(name.startswith("atelier_server/playground/assets/") for name in names)


@contextmanager
def serving(programs: Path, cwd: Path) -> Iterator[str]:
    """The address of `atelier serve` without a configuration, once it accepts generations."""
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        *(programs / "atelier", "serve", "--listen", address, "--data-dir", "data"),
        *("--metrics", f"127.0.0.1:{free_port()}"),
    ]
    log = cwd / "server.log"
    with log.open("wb") as file:
        server = subprocess.Popen(command, cwd=cwd, env=PLAIN, stdout=file, stderr=file)
    try:
        with Client(address, reconnect_timeout_seconds=START_SECONDS) as client:
            assert _accepts(client, server), log.read_text()
        yield address
        server.terminate()
        assert server.wait(STOP_SECONDS) == 0
        assert "Traceback" not in log.read_text()
    finally:
        server.kill()


def _accepts(client: Client, server: subprocess.Popen[bytes]) -> bool:
    """Wait until every engine is ready; False if the server ends before."""
    while server.poll() is None:
        time.sleep(0.1)
        try:
            health = client.health()
        except AtelierError:
            continue
        if all(engine.state == "ready" for engine in health.engines):
            return True
    return False


def test_every_distribution_has_both_forms(dist: Path) -> None:
    """A wheel and an sdist, of one version."""
    built = sorted(path.name for path in dist.glob("atelier_*"))
    assert len(built) == 2 * len(NAMES)
    for name in NAMES:
        assert sum(found.startswith(f"{name}-0.1.0") for found in built) == 2


def test_a_gateway_serves_and_a_client_uses_it(
    gateway: Path, client_only: Path, tmp_path: Path
) -> None:
    """Neither has PyTorch, and the client has no NumPy either; without a configuration there is the placeholder."""
    for programs, package in ((gateway, "torch"), (client_only, "numpy"), (client_only, "PIL")):
        found = f"import importlib.util as u; print(u.find_spec({package!r}))"
        assert run(programs / "python", "-c", found, cwd=tmp_path) == "None\n"
    with serving(gateway, tmp_path) as address:
        run(
            *(client_only / "atelier", "generate", "a red apple", "-o", "apple.png"),
            *("--server", address),
            cwd=tmp_path,
        )
        with Client(address) as client:
            assert [engine.name for engine in client.capabilities().engines] == ["sketch"]
    with Image.open(tmp_path / "apple.png") as image:
        image.load()


def test_a_local_server_uses_the_model_that_ships(local: Path, tmp_path: Path) -> None:
    """Its weights are in the wheel."""
    where = "import atelier_engines, atelier_tiny; print(atelier_engines.__file__, atelier_tiny.__file__)"
    assert str(ROOT) not in run(local / "python", "-c", where, cwd=tmp_path)
    with serving(local, tmp_path) as address, Client(address) as client:
        made = client.generate("a red apple", engine="tiny", steps=1)
    assert made.images[0].data


def test_users_get_types(client_only: Path, gateway: Path, tmp_path: Path) -> None:
    """Under mypy and pyright, both strict; the types come from the installed packages."""
    checked = {client_only: USER, gateway: CUSTOM_ENGINE}
    for programs, program in checked.items():
        source = tmp_path / program.name
        source.write_text(program.read_text())
        python = programs / "python"
        run(
            *(sys.executable, "-m", "mypy", "--strict", "--python-executable", python),
            *("--cache-dir", tmp_path / "cache", source),
            cwd=tmp_path,
        )
        (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
        pyright = Path(sys.executable).with_name("basedpyright")
        run(pyright, "--pythonpath", python, source, cwd=tmp_path)


def test_the_contract_comes_as_files_and_as_descriptors(dist: Path, tmp_path: Path) -> None:
    """The archive is all that buf needs, and both say the same."""
    run("tar", "--extract", "--file", dist / "atelier-proto.tar.gz", cwd=tmp_path)
    buf = Path(sys.executable).with_name("buf")
    run(buf, "build", "proto", "--as-file-descriptor-set", "--output", "a.binpb", cwd=tmp_path)
    built = (tmp_path / "a.binpb").read_bytes()
    assert built == (dist / "atelier-descriptors.binpb").read_bytes()
