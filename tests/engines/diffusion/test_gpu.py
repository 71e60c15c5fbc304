"""The engine on CUDA. Written without a GPU at hand: no run of these tests has been seen yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from atelier_engines.capabilities import Reproducibility
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.config import Precision
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.event import Step
from tests.engines.diffusion.asking import ask, events_of, pictures_of
from tests.engines.diffusion.test_parity import SCHEDULERS

pytestmark = pytest.mark.gpu

TOLERANCES: dict[Precision, float] = {"float32": 1, "float16": 4, "bfloat16": 16}
"""Largest difference of a byte: the same kernels run in the same order on the same device, but
the autoencoder may compute in float32 here where the pipeline rounds its weights first."""

FRACTION_OF_ANY_GPU = 1e-4


@pytest.fixture
async def cuda(model: Path) -> AsyncIterator[DiffusionEngine]:
    """An engine that found the GPU by itself."""
    engine = DiffusionEngine(DiffusionConfig(model=str(model), preview_interval=1))
    await engine.start()
    yield engine
    await engine.stop()


def test_it_finds_the_gpu_and_claims_no_equal_bits(cuda: DiffusionEngine) -> None:
    """float16 on CUDA is the same on one engine, not on all machines."""
    assert cuda._painter is not None
    assert cuda._painter.family.runtime.device.type == "cuda"
    assert cuda._painter.family.runtime.dtype == torch.float16
    assert cuda.capabilities.reproducibility is Reproducibility.SAME_ENGINE


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "dpmpp_2m"])
async def test_it_is_close_to_the_pipeline(
    model: Path, precision: Precision, scheduler: str
) -> None:
    """Noise comes from the CPU's generator in both, so that the pictures are comparable."""
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cuda", precision=precision))
    await engine.start()
    assert engine._painter is not None
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        model, dtype=engine._painter.family.runtime.dtype, add_watermarker=False
    ).to("cuda")
    pipeline.set_progress_bar_config(disable=True)
    kind, settings = SCHEDULERS[scheduler]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **settings)
    (made,) = await pictures_of(engine, ask(scheduler=scheduler))
    wanted = pipeline(
        "a red apple",
        width=64,
        height=64,
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    await engine.stop()
    difference = np.abs(made.astype(int) - np.asarray(wanted, int)).max()
    assert difference <= TOLERANCES[precision]


async def test_the_same_task_gives_the_same_bytes(cuda: DiffusionEngine) -> None:
    """What SAME_ENGINE promises."""
    task = ask(width=256, height=256, steps=8)
    (one,), (other,) = await pictures_of(cuda, task), await pictures_of(cuda, task)
    assert np.array_equal(one, other)


async def test_closing_leaves_the_device_idle(cuda: DiffusionEngine) -> None:
    """No step that was ordered ahead is left when the close returns."""
    async with aclosing(cuda.run(ask(width=512, height=512, steps=150))) as events:
        async for event in events:
            if isinstance(event, Step):
                break
    assert torch.cuda.current_stream().query()
    assert await pictures_of(cuda, ask())


async def test_out_of_memory_is_typed_and_survived(cuda: DiffusionEngine) -> None:
    """The memory of the failed task is free again."""
    torch.cuda.set_per_process_memory_fraction(FRACTION_OF_ANY_GPU)
    try:
        with pytest.raises(OutOfMemoryError, match="2048 x 1024"):
            await events_of(cuda, ask(width=2048, height=1024))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert await pictures_of(cuda, ask())


async def test_stopping_gives_the_memory_back(model: Path) -> None:
    """As much is used as before the start."""
    before = torch.cuda.memory_allocated()
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cuda"))
    await engine.start()
    await pictures_of(engine, ask())
    assert torch.cuda.memory_allocated() > before
    await engine.stop()
    assert torch.cuda.memory_allocated() <= before + 2**25
