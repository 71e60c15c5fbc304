"""TensorRT for RTX compiles every network of the small model, here without a GPU; plans are kept as all builds are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("tensorrt_rtx_bindings", reason="the extra `tensorrt-rtx` is not installed")

from atelier_engines.builds import BuildPlan
from atelier_engines.diffusion import ENGINE, DiffusionConfig
from atelier_engines.diffusion.builds import tensorrt_builds
from atelier_engines.diffusion.builds.tensorrt_builds import TensorrtBuilder
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.tensorrt import library
from atelier_engines.diffusion.runtimes.tensorrt.session import TensorrtSession
from atelier_engines.errors import EngineFailedError, EngineUnavailableError
from atelier_engines.local.builds.manifest import BuildRefusedError
from atelier_engines.local.builds.store import BuildStore
from tests.engines.diffusion.test_builds import ignore
from tests.engines.diffusion.test_builds_engine import start
from tests.engines.diffusion.test_onnx_graphs import GRAPH, make_doubler

NETWORKS = (
    "text_encoder",
    "text_encoder_2",
    "unet",
    "ControlNet canny",
    "vae encoder",
    "vae decoder",
)
BUCKETS = ({"width": 128, "height": 128, "rows": 2},)


def settings(directory: Path, **changes: object) -> Mapping[str, object]:
    """The small model in float32, whose graphs come with it."""
    return {
        "runtime": "tensorrt_rtx",
        "precision": "float32",
        "builds_directory": directory,
        "max_side": 512,
        **changes,
    }


def plan(directory: Path, **changes: object) -> BuildPlan:
    """What `atelier build` would build."""
    assert ENGINE.builds is not None
    return ENGINE.builds(DiffusionConfig.model_validate(settings(directory, **changes)))


def list_digests(directory: Path, **changes: object) -> list[str]:
    """Of all builds that are needed."""
    return [target.digest for target in plan(directory, **changes).targets]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all networks of the small model are built, once."""
    folder = tmp_path_factory.mktemp("plans")
    for target in plan(folder).targets:
        target.build(ignore)
    return folder


@pytest.fixture
def builder(tmp_path: Path) -> TensorrtBuilder:
    """With an empty store."""
    config = DiffusionConfig.model_validate(settings(tmp_path))
    return tensorrt_builds.create(config, "tensorrt_rtx", BuildStore(directory=tmp_path))


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """The smallest one."""
    return make_doubler(tmp_path)


def test_every_network_of_the_small_model_is_compiled(directory: Path) -> None:
    """To one file each, with what it was made from; nothing here can compare it with torch."""
    targets = plan(directory).targets
    assert tuple(target.name for target in targets) == NETWORKS
    store = BuildStore(directory=directory)
    for target in targets:
        build = store.verify(target.digest)
        assert [path.name for path in sorted(build.folder.iterdir())] == [
            "manifest.json",
            "model.plan",
        ]
        assert build.size_bytes > 1_000_000
        assert build.manifest.deviations == ()
        key = build.manifest.key
        assert (key.runtime, key.precision) == ("tensorrt_rtx", "float32")
        assert key.versions["tensorrt_rtx"] == library.load("tensorrt_rtx", directory).version
        steps: list[str] = []
        target.build(steps.append)
        assert steps == ["already built"]


def test_plan_is_another_build_for_other_shapes_and_formats(tmp_path: Path) -> None:
    """Text encoders have no size; float16 on CUDA is the default, but not of an autoencoder that overflows."""
    changes: Mapping[str, Mapping[str, object]] = {
        "same": {},
        "bucket": {"compile_buckets": BUCKETS},
        "side": {"max_side": 768},
        "rows": {"max_batch": 4},
        "float16": {"precision": "auto"},
    }
    digests = {
        name: dict(zip(NETWORKS, list_digests(tmp_path, **each), strict=True))
        for name, each in changes.items()
    }
    usual = digests.pop("same")
    changed = {
        name: {network for network in NETWORKS if found[network] != usual[network]}
        for name, found in digests.items()
    }
    images = set(NETWORKS[2:])
    assert changed["bucket"] == changed["side"] == changed["rows"] == images
    assert changed["float16"] >= {"text_encoder", "text_encoder_2", "unet", "ControlNet canny"}


def test_damaged_plan_is_refused_and_built_anew(builder: TensorrtBuilder, network: Network) -> None:
    """A plan is as good as code: whatever is not in its manifest is not opened."""
    key = builder.identify(network)
    held = builder.build(network, key, ignore)
    held.build.path.write_bytes(held.build.path.read_bytes()[:-1] + b"!")
    with pytest.raises(BuildRefusedError, match=r"model\.plan is damaged"):
        builder.store.hold(key)
    steps: list[str] = []
    builder.build(network, key, steps.append)
    assert "building it anew, since" in steps[0]
    assert steps[1:-1] == ["exporting", "checking", "compiling"]
    assert steps[-1].endswith("not compared with torch, since nothing here can run it")


def test_what_cannot_be_compiled_is_named(builder: TensorrtBuilder, network: Network) -> None:
    """With the library's own reason, and without a build."""

    class Determinant(torch.nn.Module):
        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            determinant: torch.Tensor = torch.linalg.det(numbers[:, None] * numbers[..., None])
            return determinant

    refused = replace(network, load=Determinant)
    with pytest.raises(EngineFailedError, match=r"tensorrt_rtx cannot read its graph: .*Det"):
        builder.build(refused, builder.identify(refused), ignore)
    assert builder.store.digests() == ()


def test_profiles_are_found_by_shapes(builder: TensorrtBuilder, network: Network) -> None:
    """The first that accepts them, and none for what is larger than all."""
    from atelier_engines.diffusion.runtimes.tensorrt import profiles  # noqa: PLC0415  (beside its use)

    graph = Graph(name="", inputs=network.graph.inputs, outputs=(), wrap=network.graph.wrap)
    small = profiles.for_everything(side=64, usual_side=64, rows=2)
    large = profiles.for_everything(side=64, usual_side=64, rows=8)
    found = profiles.for_graph(graph, (small, large, small))
    assert found == (small, large)
    places = [profiles.find(graph, found, {"numbers": (rows, 2)}) for rows in (2, 3, 9)]
    assert places == [0, 1, None]
    assert builder.profiles_of(network)[-1].most["rows"] == 8


def test_without_a_gpu_torch_runs_it_or_nothing_does(directory: Path) -> None:
    """As configured, and nothing of the library is opened: without a driver it would end the process."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    found = start(settings(directory), device="auto", on_missing_build="fallback", max_side=512)
    assert found.runtimes["denoiser"] == "torch"
    assert "needs a CUDA device" in found.runtime_fallbacks["denoiser"]
    with pytest.raises(EngineUnavailableError, match="tensorrt_rtx needs a CUDA device"):
        start(settings(directory), on_missing_build="fail")
    with pytest.raises(EngineUnavailableError, match="needs a CUDA device"):
        TensorrtSession(
            library.load("tensorrt_rtx", directory),
            GRAPH,
            lambda: directory,
            accepted=(),
            device=torch.device("cuda"),
        )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"device": "cpu"}, "tensorrt_rtx runs on CUDA: set device to cuda:0"),
        ({"runtime": {"denoiser": "tensorrt_rtx", "autoencoder": "onnx"}}, "onnx on the CPU"),
        (
            {"runtime": {"denoiser": "tensorrt", "autoencoder": "tensorrt_rtx"}},
            "tensorrt and tensorrt_rtx exclude each other",
        ),
        ({"runtime": "torch", "compile_buckets": BUCKETS}, "or a runtime of TensorRT"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    tmp_path: Path, changes: Mapping[str, object], problem: str
) -> None:
    """With what to change."""
    with pytest.raises(ValueError, match=problem):
        DiffusionConfig.model_validate(settings(tmp_path, **changes))
