"""Sessions of ONNX Runtime: other weights for LoRAs, memory, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier_engines.diffusion.loras.changes import LayerChange
from atelier_engines.diffusion.loras.replacing import ReplacingNetwork, WeightedLora
from atelier_engines.diffusion.loras.weights import LoraWeights
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import ROWS, Graph, GraphInput
from atelier_engines.diffusion.runtimes.onnx.lora_weights import OnnxWeights
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import errors
from atelier_engines.local.model_cache import CacheKey, ModelCache

CPU = torch.device("cpu")
NUMBERS = torch.arange(6.0).view(3, 2)


class Network(torch.nn.Module):
    """The smallest one whose weights LoRAs change."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        made: torch.Tensor = self.layer(numbers)
        return made


class Wrapper(torch.nn.Module):
    """The network as graphs of larger ones have it."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """The network's output."""
        made: torch.Tensor = self.module(numbers)
        return made


GRAPH = Graph(
    name="network",
    inputs=(GraphInput(name="numbers", shape=(ROWS, 2), dtype=torch.float32),),
    outputs=("made",),
    wrap=Wrapper,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported network."""
    made = tmp_path_factory.mktemp("graph") / "model.onnx"
    export(GRAPH, Network(), made)
    return made


def open_session(path: Path, *, kept_sets: int = 1) -> OnnxSession:
    """A session of an exported network."""
    return OnnxSession(GRAPH, lambda: path, kept_sets=kept_sets)


def changes(factor: float) -> dict[str, LayerChange]:
    """A change of the layer's weight and of its bias."""
    parts = {"diff": torch.eye(2) * factor, "diff_b": torch.ones(2) * factor}
    return {"layer": LayerChange(parts, None)}


def lora(name: str, factor: float, weight: float = 1.0) -> WeightedLora:
    """An active LoRA."""
    return WeightedLora(adapter=name, weight=weight, changes=changes(factor))


def expected(factor: float) -> torch.Tensor:
    """What torch computes with the change."""
    network = Network()
    with torch.no_grad():
        network.layer.weight.add_(torch.eye(2) * factor)
        network.layer.bias.add_(factor)
        made: torch.Tensor = network(NUMBERS)
    return made


def run(session: OnnxSession) -> torch.Tensor:
    """The network's output."""
    return session.run({"numbers": NUMBERS})[0]


def test_each_set_of_loras_has_weights_of_its_own(path: Path) -> None:
    """From one to another and back everything is the same to the bit; weights and order count."""
    session = open_session(path, kept_sets=2)
    plain = run(session)
    sets = [(), (lora("a", 2.0),), (lora("a", 2.0, 0.5), lora("b", 3.0)), (lora("a", 2.0),), ()]
    made = []
    for each in sets:
        session.use(each)
        made.append(run(session))
    for got, factor in zip(made, (0.0, 2.0, 4.0, 2.0, 0.0), strict=True):
        assert torch.allclose(got, expected(factor), atol=1e-5)
    assert torch.equal(made[1], made[3])
    assert torch.equal(made[0], plain)
    assert torch.equal(made[4], plain)


def test_few_sets_are_kept(path: Path) -> None:
    """The session of the original weights stays; what is forgotten or not the latest goes, and can be had again."""
    session = open_session(path, kept_sets=2)
    alone = session.nbytes
    for name in ("a", "b", "c", "a"):
        session.use([lora(name, 1.0)])
        run(session)
        assert session.nbytes <= 3 * alone
    assert session.nbytes == 3 * alone
    session.use(())
    session.forget("a")
    assert session.nbytes == 2 * alone
    assert torch.equal(run(session), run(open_session(path)))
    session.offload(keep_in_ram=False)
    assert session.nbytes == alone
    session.use([lora("a", 1.0)])
    session.restore(CPU)
    assert torch.allclose(run(session), expected(1.0), atol=1e-5)


def test_the_cache_counts_what_a_session_takes_now(path: Path) -> None:
    """With each set of LoRAs it takes more."""
    size = path.stat().st_size
    cache = ModelCache()
    cache.set_budget(CPU, 10 * size)
    key = CacheKey(files=(), kind="OnnxSession", dtype=torch.float32, device=CPU)
    lease = cache.acquire(key, lambda: open_session(path), size=1, keep_loaded=True)
    assert cache.available_bytes(CPU) == 8 * size
    lease.resident.use([lora("a", 1.0)])
    lease.run(lambda: run(lease.resident))
    assert cache.available_bytes(CPU) == 6 * size
    lease.release()
    assert cache.available_bytes(CPU) == 10 * size


def test_loras_that_cannot_be_applied_are_refused(path: Path) -> None:
    """By the name of the weight, before anything runs with them."""
    weights = OnnxWeights(open_session(path), Network)
    assert weights.names == {"layer.weight", "layer.bias"}
    network = ReplacingNetwork("unet", weights)
    network.load("a", LoraWeights(name="a", changes={"unet": changes(1.0)}))
    other = {"unet": {"other": changes(1.0)["layer"]}}
    with pytest.raises(ValueError, match=r"unet cannot change its other\.weight"):
        network.load("b", LoraWeights(name="b", changes=other))


class Squarer(torch.nn.Module):
    """A network whose output has the square of its input's length."""

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """All products of two numbers."""
        return numbers[:, None] * numbers[None]


def test_lack_of_memory_is_an_error_of_its_own(tmp_path: Path) -> None:
    """As it is with torch, so that callers are told to ask for less."""
    graph = Graph(
        name="squarer",
        inputs=(GraphInput(name="numbers", shape=(ROWS,), dtype=torch.float32),),
        outputs=("products",),
        wrap=lambda module: module,
    )
    path = tmp_path / "model.onnx"
    export(graph, Squarer(), path)
    session = OnnxSession(graph, lambda: path)
    assert session.run({"numbers": torch.ones(3)})[0].sum() == 9
    with (
        pytest.raises(OutOfMemoryError, match="an image does not fit into the memory of cpu"),
        errors.translate_inference("an image", CPU),
    ):
        session.run({"numbers": torch.ones(2**23)})
