"""TensorRT itself, its bindings and its libraries, on machines without a driver: what it can do, and how it refuses.

`make test` fetches the libraries for the bindings in the environment, and `make test-tensorrt` those of the other
version. Tests with a GPU are in test_tensorrt_builds.py.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier_engines.diffusion import ENGINE, DiffusionConfig
from atelier_engines.diffusion.builds import tensorrt_builds
from atelier_engines.diffusion.builds.tensorrt_builds import TensorrtBuilder
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.tensorrt import compiler, library, profiles, releases
from atelier_engines.diffusion.runtimes.tensorrt.fetching import fetch
from atelier_engines.diffusion.runtimes.tensorrt.library import Library
from atelier_engines.diffusion.runtimes.tensorrt.session import TensorrtSession
from atelier_engines.errors import EngineFailedError, EngineUnavailableError
from atelier_engines.local.builds.store import BuildStore
from tests.conftest import ROOT
from tests.engines.diffusion.test_builds import ignore
from tests.engines.diffusion.test_builds_engine import call, start
from tests.engines.diffusion.test_onnx_graphs import GRAPH, make_doubler

REPOSITORY = "~/.m2/repository"
"""Where Maven keeps what it has fetched."""
DIRECTORY = ROOT / ".tools" / "tensorrt"
"""Has a directory of builds for each release."""

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture(scope="module")
def directory() -> Path:
    """Where the libraries are, unpacked once."""
    try:
        release = releases.find_installed()
        store = BuildStore(directory=DIRECTORY / f"builds-{release.version}")
        fetch(release, REPOSITORY, store, ignore)
    except (EngineUnavailableError, EngineFailedError) as error:
        pytest.skip(str(error))
    return store.directory


@pytest.fixture
def tensorrt(directory: Path) -> Library:
    """Loaded once in this process."""
    return library.load("tensorrt", directory)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """The smallest one."""
    return make_doubler(tmp_path)


@pytest.fixture
def builder(tensorrt: Library, tmp_path: Path) -> TensorrtBuilder:
    """For a GPU that is not here, with an empty store."""
    return TensorrtBuilder(
        store=BuildStore(directory=tmp_path / "builds"),
        library=tensorrt,
        target="NVIDIA H100 80GB HBM3 sm_90",
        device=None,
        buckets=(profiles.for_bucket(width=512, height=512, rows=4),),
        side=1024,
        rows=8,
    )


def test_libraries_and_bindings_are_of_one_version(tensorrt: Library, directory: Path) -> None:
    """They are loaded from where they were fetched to, and nobody removes them meanwhile."""
    release = releases.find_installed()
    assert tensorrt.version == release.bindings
    assert tensorrt.held is not None
    assert tensorrt.held.build.manifest.key == release.key
    assert list(BuildStore(directory=directory).prune(())) == []
    releases.require_equal_versions(release.bindings)
    major = release.version.split(".")[0]
    with pytest.raises(EngineUnavailableError, match="its libraries have the number"):
        releases.require_equal_versions(f"{major}.99.0.1")
    assert torch.bfloat16 in tensorrt.dtypes.values()


def test_every_kind_of_gpu_and_version_has_its_own_plans(
    builder: TensorrtBuilder, network: Network
) -> None:
    """They run on no other; profiles and formats count, too."""
    key = builder.identify(network)
    assert key.device == "NVIDIA H100 80GB HBM3 sm_90"
    assert key.versions["tensorrt"] == releases.find_installed().bindings
    others = (
        replace(builder, target="NVIDIA H200 sm_90"),
        replace(builder, target="NVIDIA H100 80GB HBM3 sm_91"),
        replace(builder, library=replace(builder.library, version="11.3.0.1")),
        replace(builder, rows=4),
        replace(builder, buckets=()),
    )
    denoiser = replace(network, component="denoiser")
    keys = [one.identify(denoiser).digest for one in (builder, *others)]
    assert len(set(keys)) == len(keys)
    assert builder.identify(denoiser) == builder.identify(denoiser)


def test_nothing_is_compiled_without_a_driver(builder: TensorrtBuilder, network: Network) -> None:
    """And nothing is left of the attempt, so that the next one on a machine with a GPU begins anew."""
    key = builder.identify(network)
    steps: list[str] = []
    with pytest.raises(EngineUnavailableError, match="tensorrt needs a CUDA device"):
        builder.build(network, key, steps.append)
    assert steps == ["exporting", "checking", "compiling"]
    assert builder.store.digests() == ()
    assert [path.name for path in builder.store.directory.iterdir()] == ["locks"]
    with pytest.raises(EngineUnavailableError, match="tensorrt needs a CUDA device"):
        compiler.compile_plan(builder.library, GRAPH, Path("no.onnx"), (), Path("no.plan"))
    with pytest.raises(EngineUnavailableError, match="tensorrt needs a CUDA device"):
        TensorrtSession(builder.library, GRAPH, Path, accepted=(), device=torch.device("cuda"))


def test_engine_says_where_its_plans_must_be_built(directory: Path, tmp_path: Path) -> None:
    """In the command, at the start, and in the reason for torch in its place."""
    settings = {"runtime": "tensorrt", "builds_directory": str(directory), "max_side": 512}
    made = call(tmp_path, settings)
    assert made.exit_code == 1
    assert "its plans must be built on a machine with the GPU that runs them" in made.output
    found = start(settings, on_missing_build="fallback")
    assert set(found.runtimes.values()) == {"torch"}
    assert "tensorrt needs a CUDA device" in found.runtime_fallbacks["denoiser"]
    with pytest.raises(EngineUnavailableError, match="tensorrt needs a CUDA device"):
        start(settings)
    with pytest.raises(EngineUnavailableError, match="must be built on a machine with the GPU"):
        tensorrt_builds.create(
            DiffusionConfig.model_validate(settings), "tensorrt", BuildStore(directory=directory)
        )


def test_doctor_misses_libraries_that_are_nowhere(directory: Path, tmp_path: Path) -> None:
    """And says how to fetch them."""
    assert ENGINE.find_problems is not None
    settings = {"runtime": "tensorrt", "builds_directory": directory}
    assert list(ENGINE.find_problems(DiffusionConfig.model_validate(settings))) == []
    script = (
        "import sys; from pathlib import Path\n"
        "from atelier_engines.diffusion import ENGINE, DiffusionConfig\n"
        "config = DiffusionConfig(runtime='tensorrt', builds_directory=Path(sys.argv[1]))\n"
        "print(*(one.remedy for one in ENGINE.find_problems(config)))"
    )
    assert "atelier build --fetch-tensorrt REPOSITORY" in run_python(script, tmp_path)


def test_changed_libraries_are_not_loaded(directory: Path, tmp_path: Path) -> None:
    """They are code: every byte is read before."""
    digest = releases.find_installed().key.digest
    copy = tmp_path / digest
    copy.mkdir()
    for path in (directory / digest).iterdir():
        (copy / path.name).hardlink_to(path)
    parser = next(copy.glob("libnvonnxparser.so.*"))
    parser.unlink()
    parser.write_bytes(b"somebody else's")
    with pytest.raises(EngineUnavailableError, match=r"are refused: .*libnvonnxparser\.so"):
        releases.open_fetched(tmp_path)


BESIDE_EACH_OTHER = """
import sys
from pathlib import Path
from atelier_engines.diffusion.runtimes.tensorrt import library

for name in sys.argv[2:]:
    found = library.load(name, Path(sys.argv[1]))
    try:
        found.module.Builder(found.logger)
        print(name, "compiles")
    except TypeError:
        print(name, "has no driver", "cuda" in found.last_error.lower())
"""


def test_both_libraries_work_in_one_process(directory: Path) -> None:
    """They have symbols of the same names. The process ends as it should, without a driver too."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="the extra `tensorrt-rtx` is not installed")
    printed = run_python(BESIDE_EACH_OTHER, directory, "tensorrt", "tensorrt_rtx")
    assert printed.splitlines() == ["tensorrt has no driver True", "tensorrt_rtx compiles"]


def run_python(script: str, *arguments: object) -> str:
    """What another Python prints; it has to end without an error."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
