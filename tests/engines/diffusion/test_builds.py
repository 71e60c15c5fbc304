"""Networks are built once, whoever builds too or is killed, and only if they compute what torch computes."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.builds.onnx_builds import OnnxBuilder
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.denoiser import describe_controlnet
from atelier_engines.errors import EngineFailedError
from atelier_engines.local.builds.store import BuildStore
from tests.engines.diffusion.test_onnx_graphs import GRAPH, Doubler, make_doubler

BUILD_FOREVER = """
import sys
from pathlib import Path
from atelier_engines.local.builds.key import BuildKey
from atelier_engines.local.builds.store import BuildStore

store = BuildStore(directory=Path(sys.argv[1]))
key = BuildKey.model_validate_json(sys.argv[2])
with store.turn(key, str), store.writing(key) as folder:
    (folder / "model.onnx").write_bytes(b"half of it")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """The smallest one."""
    return make_doubler(tmp_path)


@pytest.fixture
def builder(tmp_path: Path) -> OnnxBuilder:
    """With an empty store."""
    return OnnxBuilder(store=BuildStore(directory=tmp_path / "builds"))


def ignore(step: str) -> None:
    """Drop a step."""


def refuse() -> torch.nn.Module:
    """Stands for a network that must not be loaded."""
    raise AssertionError("loaded again")


def test_network_is_built_once(builder: OnnxBuilder, network: Network) -> None:
    """Every step is reported; the manifest says how far it is from torch; other weights are another build."""
    steps: list[str] = []
    held = builder.build(network, builder.identify(network), steps.append)
    assert steps[:-1] == ["exporting", "checking", "compiling", "verifying"]
    assert "differs from torch by at most 0.0e+00" in steps[-1]
    (deviation,) = held.build.manifest.deviations
    assert (deviation.output, deviation.largest_error) == ("doubled", 0.0)
    again: list[str] = []
    builder.build(replace(network, load=refuse), builder.identify(network), again.append)
    assert again == ["already built"]
    network.weights[0].write_bytes(b"other")
    with pytest.raises(EngineFailedError, match="doubler cannot be built for onnx: loaded again"):
        builder.build(replace(network, load=refuse), builder.identify(network), again.append)


def test_damaged_build_is_replaced(builder: OnnxBuilder, network: Network) -> None:
    """And the reason is reported."""
    held = builder.build(network, builder.identify(network), ignore)
    held.build.path.write_bytes(b"damaged")
    steps: list[str] = []
    builder.build(network, builder.identify(network), steps.append)
    assert steps[0].startswith("building it anew, since ")
    assert "model.onnx has 7 bytes" in steps[0]
    assert builder.store.verify(builder.identify(network).digest).manifest.deviations


def test_two_at_once_build_it_once(builder: OnnxBuilder, network: Network) -> None:
    """The second waits and finds what the first has built."""
    loaded: list[str] = []

    def load() -> torch.nn.Module:
        loaded.append("loaded")
        return Doubler()

    counted, key = replace(network, load=load), builder.identify(network)
    threads = [
        threading.Thread(target=builder.build, args=(counted, key, ignore)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["loaded"]
    assert builder.store.verify(key.digest).manifest.deviations


def test_killed_builder_leaves_no_build(builder: OnnxBuilder, network: Network) -> None:
    """Whoever waits for it builds then, and nothing of it is left."""
    key = builder.identify(network)
    command = [sys.executable, "-c", BUILD_FOREVER, str(builder.store.directory)]
    command.append(key.model_dump_json())
    steps: list[str] = []
    waits = threading.Event()

    def report(step: str) -> None:
        steps.append(step)
        waits.set()

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        assert [path.name for path in builder.store.directory.glob(".unfinished-*")]
        assert builder.store.hold(key) is None
        thread = threading.Thread(target=builder.build, args=(network, key, report))
        thread.start()
        waits.wait()
        assert steps == ["waiting for another process to build it"]
        process.kill()
    thread.join()
    assert steps[1] == "exporting"
    assert builder.store.verify(key.digest).manifest.deviations
    assert not list(builder.store.directory.glob(".unfinished-*"))


class Drifting(torch.nn.Module):
    """Computes something else each time that it is run, as a graph does that was exported wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Another multiple of the numbers each time."""
        self.runs += 1
        return numbers * self.runs


def test_what_differs_from_torch_is_not_kept(builder: OnnxBuilder, network: Network) -> None:
    """It is refused with the output and the difference."""
    key = builder.identify(network)
    with pytest.raises(EngineFailedError, match=r"doubled differs by .* of its largest number"):
        builder.build(replace(network, load=Drifting), key, ignore)
    assert builder.store.digests() == ()
    assert not list(builder.store.directory.glob(".unfinished-*"))


def test_inputs_are_in_their_ranges() -> None:
    """Time steps and maps as they are in use, and sizes that nothing is exported at."""
    config = {
        "in_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "addition_embed_type": None,
    }
    graph = describe_controlnet(config, torch.float32)
    first, second = parity.draw_inputs(graph)
    assert 1 < float(second["timesteps"].max()) <= 1000
    assert 0 <= float(first["maps"].min()) <= float(first["maps"].max()) <= 1
    assert float(first["latents"].min()) < 0
    assert second["maps"].shape == (2, 3, 104, 80)
    exported = {one.name: one.example().shape for one in graph.inputs}
    assert all(each["latents"].shape != exported["latents"] for each in (first, second))


def test_numbers_that_are_not_finite_are_refused() -> None:
    """And other shapes."""
    inputs = parity.draw_inputs(GRAPH)
    wanted = parity.run_torch(GRAPH, Doubler(), inputs)

    def spoil(each: parity.Inputs) -> tuple[torch.Tensor, ...]:
        return (each["numbers"] * float("nan"),)

    with pytest.raises(ValueError, match="doubled has numbers that are not finite"):
        parity.measure(GRAPH, spoil, inputs, wanted)
    with pytest.raises(ValueError, match="doubled has the shape"):
        parity.measure(GRAPH, lambda each: (each["numbers"][:, :1],), inputs, wanted)
