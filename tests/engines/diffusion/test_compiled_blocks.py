"""Blocks are compiled for the shapes that are configured; everything else runs as without a compiler, and is counted.

What dynamo finds is run here as it is: a C++ compiler would take minutes, and decide nothing of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from peft import LoraConfig
from pydantic import ValidationError

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine, compilation
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks
from atelier_engines.diffusion.runtimes.torch import TorchControlNet, TorchDenoiser
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.event import Event, Output
from atelier_engines.local.step_pipeline import run_alone
from tests.engines.diffusion.calls import image_task


@dataclass(slots=True)
class Compiler:
    """Compiles nothing, and counts what it was given and how often that ran."""

    graphs: int = 0
    runs: int = 0
    seen: list[int] = field(default_factory=list)

    def __call__(
        self, graph: torch.fx.GraphModule, _examples: list[torch.Tensor]
    ) -> Callable[..., object]:
        """What runs in the graph's place."""
        self.graphs += 1

        def run(*inputs: object) -> object:
            self.runs += 1
            return graph.forward(*inputs)

        return run


@pytest.fixture(autouse=True)
def _own_compiler() -> Iterator[None]:
    """Compiled code and the stance are the process's: others find them as they were."""
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


@pytest.fixture
def compiler() -> Compiler:
    """Counts."""
    return Compiler()


@pytest.fixture
def compiled(engine: DiffusionEngine, model: Path, compiler: Compiler) -> Pipeline:
    """The engine's pipeline with a denoiser of its own, whose blocks are compiled for 64 x 64 with guidance."""
    pipeline = engine.inspect()
    blocks = CompiledBlocks(backend=compiler)
    module = UNet2DConditionModel.from_pretrained(model / "unet").eval()
    runtime = replace(
        pipeline.family.runtime, denoiser=TorchDenoiser(blocks.prepare(module), blocks=blocks)
    )
    family = replace(pipeline.family, runtime=runtime)  # type: ignore[type-var]  # a dataclass of some family
    config = DiffusionConfig.model_validate(
        {"compile": "regions", "compile_buckets": [{"width": 64, "height": 64, "rows": 2}]}
    )
    compilation.compile_shapes(family, blocks, config, pipeline.info)
    blocks.take_eager_runs()
    return replace(pipeline, family=family, blocks=blocks)


def generate(pipeline: Pipeline, **task: object) -> Output:
    """One image."""
    events: list[Event] = []
    run_alone(pipeline, image_task(guidance=3.0, steps=2, **task), events.append)
    return next(event for event in events if isinstance(event, Output))


def test_images_of_a_compiled_shape_run_compiled_code(
    compiled: Pipeline, compiler: Compiler, engine: DiffusionEngine
) -> None:
    """In every block and step, with the same result."""
    before, graphs = compiler.runs, compiler.graphs
    made = generate(compiled, width=64, height=64)
    blocks = count_blocks(compiled)
    assert blocks > 1
    assert compiler.runs - before == 2 * blocks
    assert made.eager_runs == 0
    wanted = generate(engine.inspect(), width=64, height=64)
    assert made.media == wanted.media or (made.media.array == wanted.media.array).all()  # type: ignore[union-attr]  # pixels
    assert compiler.graphs == graphs


def find_module(pipeline: Pipeline) -> UNet2DConditionModel:
    """The denoiser's network."""
    denoiser = pipeline.family.runtime.denoiser
    assert isinstance(denoiser, TorchDenoiser)
    return denoiser.module


def count_blocks(pipeline: Pipeline) -> int:
    """How many blocks repeat in the denoiser."""
    module = find_module(pipeline)
    return sum(type(block).__name__ == "BasicTransformerBlock" for block in module.modules())


def test_controlnets_are_compiled_too(model: Path, compiler: Compiler) -> None:
    """They have the same blocks."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet").eval()
    blocks = CompiledBlocks(backend=compiler)
    controlnet = TorchControlNet(
        blocks.prepare(ControlNetModel.from_unet(unet).eval()), blocks=blocks
    )
    latents, timesteps = torch.zeros(2, 4, 8, 8), torch.zeros(2)
    conditioning = Conditioning(
        prompt_embeds=torch.zeros(2, 77, 96),
        pooled_prompt_embeds=torch.zeros(2, 64),
        time_ids=torch.zeros(2, 6),
    )
    maps = torch.zeros(2, 3, 64, 64)

    def compute() -> None:
        with torch.inference_mode():
            controlnet.compute_residuals(
                latents, timesteps, conditioning, maps=maps, scales=[1.0, 1.0]
            )

    with blocks.compiling((2, 8, 8, 77)):
        compute()
    blocks.take_eager_runs()
    graphs, runs = compiler.graphs, compiler.runs
    compute()
    assert compiler.runs > runs
    assert (compiler.graphs, blocks.take_eager_runs()) == (graphs, 0)


@pytest.mark.parametrize("size", [(64, 72), (128, 64)])
def test_other_shapes_run_eagerly_and_are_counted(
    compiled: Pipeline, compiler: Compiler, size: tuple[int, int]
) -> None:
    """Nobody waits for the compiler."""
    before = (compiler.graphs, compiler.runs)
    assert generate(compiled, width=size[0], height=size[1]).eager_runs == 2
    assert (compiler.graphs, compiler.runs) == before
    assert generate(compiled, width=64, height=64).eager_runs == 0


def test_blocks_that_loras_have_changed_run_eagerly(compiled: Pipeline, compiler: Compiler) -> None:
    """And are counted, whatever their shape."""
    module = find_module(compiled)
    module.add_adapter(LoraConfig(target_modules=["to_q"]))
    before = (compiler.graphs, compiler.runs)
    assert generate(compiled, width=64, height=64).eager_runs == 2
    assert compiler.graphs == before[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": True}, "true is now `regions`"),
        ({"compile_buckets": [{"width": 64, "height": 64}]}, "compile_buckets need compile"),
        ({"compile": "regions", "runtime": "onnx"}, "the denoiser is run by onnx"),
        (
            {"compile": "regions", "compile_buckets": [{"width": 4096, "height": 64}]},
            "compile_buckets has 4096 x 64, and max_side is 2048",
        ),
        ({"compile": "regions", "compile_buckets": [{"width": 60, "height": 64}]}, "width"),
    ],
)
def test_what_cannot_be_compiled_is_refused(settings: dict[str, object], message: str) -> None:
    """When the configuration is read."""
    with pytest.raises(ValidationError, match=message):
        DiffusionConfig.model_validate(settings)


async def test_start_without_a_compiler_says_what_to_install(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is loaded."""
    monkeypatch.setenv("PATH", "")
    engine = DiffusionEngine(
        DiffusionConfig.model_validate({"model": str(model), "device": "cpu", "compile": "regions"})
    )
    with pytest.raises(EngineUnavailableError, match=r"needs a C\+\+ compiler.*apt-get install"):
        await engine.start()
