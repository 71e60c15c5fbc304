"""The small model on ONNX Runtime: it brings its graphs along, and draws what torch draws."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.runtimes.graphs import structures
from atelier_engines.diffusion.runtimes.graphs.denoiser import describe_denoiser
from atelier_engines.task import Control, ControlType, ImageTask, Lora
from atelier_tiny import GRAPHS
from tests.engines.diffusion import tiny_sdxl
from tests.engines.diffusion.calls import generate_images
from tests.engines.diffusion.test_onnx import psnr
from tests.engines.diffusion.test_parity_init_images import photo

SIZE = {"width": 96, "height": 104, "steps": 2, "guidance": 2.5, "seeds": (1,)}
TASKS = {
    "text": ImageTask(prompt="a red heart", **SIZE),  # type: ignore[arg-type]  # fields of several types
    "LoRA and control": ImageTask(
        prompt="a blue boat",
        loras=(Lora(name="sketch"),),
        controls=(Control(type=ControlType.CANNY, image=photo()),),
        **SIZE,  # type: ignore[arg-type]  # fields of several types
    ),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the exported networks are."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def engines(directory: Path) -> Iterator[tuple[DiffusionEngine, DiffusionEngine]]:
    """Run by torch, and by ONNX Runtime."""
    made = [
        DiffusionEngine(
            DiffusionConfig(device="cpu", runtime=runtime, max_batch=1, builds_directory=directory)
        )
        for runtime in ("torch", "onnx")
    ]
    for one in made:
        asyncio.run(one.start())
    yield made[0], made[1]
    for one in made:
        asyncio.run(one.stop())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_small_model_draws_the_same(
    engines: tuple[DiffusionEngine, DiffusionEngine], task: ImageTask
) -> None:
    """To at least 40 dB; twice the same to the byte."""
    (wanted,) = await generate_images(engines[0], task)
    (got,) = await generate_images(engines[1], task)
    (again,) = await generate_images(engines[1], task)
    assert psnr(got, wanted) >= 40
    assert (got == again).all()


def test_small_model_needs_no_tracing(
    engines: tuple[DiffusionEngine, DiffusionEngine], directory: Path
) -> None:
    """Every network that it runs is one of the graphs that come with it."""
    del engines
    files = list(directory.rglob("*.onnx"))
    assert len(files) == 6
    for path in files:
        model = onnx.load(path)
        assert [one.key for one in model.metadata_props] == ["settings"]
        assert all(one.raw_data for one in model.graph.initializer)


def test_other_networks_are_not_taken_for_known_ones(tmp_path: Path) -> None:
    """By the shapes of their weights, and by settings that change no shape."""
    from diffusers import UNet2DConditionModel  # noqa: PLC0415  (takes seconds)

    from atelier_tiny import WEIGHTS  # noqa: PLC0415  (beside it)

    def find(unet: UNet2DConditionModel) -> Path | None:
        graph = describe_denoiser(unet.config, torch.float32, with_residuals=False)
        return structures.find(graph, graph.wrap(unet))

    own = UNet2DConditionModel.from_pretrained(WEIGHTS / "unet")
    assert find(own) in GRAPHS.values()
    heads = UNet2DConditionModel.from_config({**own.config, "attention_head_dim": [2, 2, 5]})
    assert find(heads) is None
    other = tiny_sdxl.write(tmp_path)
    assert find(UNet2DConditionModel.from_pretrained(other / "unet")) is None
