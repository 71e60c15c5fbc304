"""The engine on CUDA. Written without a GPU at hand: no run of these tests has been seen yet."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline

from atelier_engines.capabilities import Reproducibility
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.event import Step
from atelier_engines.local import devices
from atelier_engines.local.config import Precision
from atelier_engines.local.model_cache import MODEL_CACHE
from tests.engines.diffusion.calls import collect_events, generate_images, image_task
from tests.engines.diffusion.inspection import modules_of
from tests.engines.diffusion.test_parity import SCHEDULERS

pytestmark = pytest.mark.gpu

TOLERANCES: dict[Precision, float] = {"float32": 1, "float16": 4, "bfloat16": 16}
"""Largest difference of a byte: the same kernels run in the same order on the same device, but
the autoencoder may compute in float32 here where the pipeline rounds its weights first."""

PROFILES = ("balanced", "memory")

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
    assert cuda.inspect().family.runtime.device.type == "cuda"
    assert cuda.inspect().family.runtime.dtype == torch.float16
    assert cuda.capabilities.reproducibility is Reproducibility.SAME_ENGINE


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "dpmpp_2m"])
async def test_it_is_close_to_the_pipeline(
    model: Path, precision: Precision, scheduler: str
) -> None:
    """Noise comes from the CPU's generator in both, so that the images are comparable."""
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cuda", precision=precision))
    await engine.start()
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        model, dtype=engine.inspect().family.runtime.dtype, add_watermarker=False
    ).to("cuda")
    pipeline.set_progress_bar_config(disable=True)
    kind, settings = SCHEDULERS[scheduler]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **settings)
    (made,) = await generate_images(engine, image_task(scheduler=scheduler))
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
    task = image_task(width=256, height=256, steps=8)
    (one,), (other,) = await generate_images(cuda, task), await generate_images(cuda, task)
    assert np.array_equal(one, other)


async def test_closing_leaves_the_device_idle(cuda: DiffusionEngine) -> None:
    """No step that was ordered ahead is left when the close returns."""
    async with aclosing(cuda.run(image_task(width=512, height=512, steps=150))) as events:
        async for event in events:
            if isinstance(event, Step):
                break
    assert torch.cuda.current_stream().query()
    assert await generate_images(cuda, image_task())


async def test_out_of_memory_is_typed_and_survived(cuda: DiffusionEngine) -> None:
    """The memory of the failed task is free again."""
    torch.cuda.set_per_process_memory_fraction(FRACTION_OF_ANY_GPU)
    try:
        with pytest.raises(OutOfMemoryError, match="2048 x 1024"):
            await collect_events(cuda, image_task(width=2048, height=1024))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert await generate_images(cuda, image_task())


async def test_stopping_gives_the_memory_back(model: Path) -> None:
    """As much is used as before the start."""
    before = torch.cuda.memory_allocated()
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cuda"))
    await engine.start()
    await generate_images(engine, image_task())
    assert torch.cuda.memory_allocated() > before
    await engine.stop()
    assert torch.cuda.memory_allocated() <= before + 2**25


def copied(model: Path, folder: Path, **settings: object) -> DiffusionEngine:
    """An engine on the GPU with files of its own."""
    usual = {"model": str(shutil.copytree(model, folder)), "device": "cuda:0"}
    return DiffusionEngine(DiffusionConfig.model_validate({**usual, **settings}))


def places(engine: DiffusionEngine) -> dict[str, str]:
    """Where the weights of the networks are."""
    found = modules_of(engine).items()
    return {name: next(network.parameters()).device.type for name, network in found}


@pytest.fixture
def _no_budget() -> Iterator[None]:
    """Afterwards, what the tests before had is theirs again."""
    yield
    device = torch.device("cuda:0")
    MODEL_CACHE.set_budget(device, devices.budget(None, device))


async def test_engines_with_the_same_files_take_the_memory_of_one(model: Path) -> None:
    """The second one allocates little."""
    engines = [DiffusionEngine(DiffusionConfig(model=str(model), device="cuda")) for _ in "12"]
    await engines[0].start()
    before = torch.cuda.memory_allocated()
    await engines[1].start()
    assert modules_of(engines[0])["unet"] is modules_of(engines[1])["unet"]
    assert torch.cuda.memory_allocated() < before + 2**20
    for engine in engines:
        await engine.stop()


@pytest.mark.usefixtures("_no_budget")
async def test_what_does_not_fit_waits_in_main_memory(model: Path, tmp_path: Path) -> None:
    """And makes the same bytes when it is back."""
    first = copied(model, tmp_path / "1")
    await first.start()
    (wanted,) = await generate_images(first, image_task())
    needed = sum(part.nbytes for part in first.inspect().components.status())
    second = copied(model, tmp_path / "2", memory_budget=needed * 1.2)
    await second.start()
    assert places(first)["unet"] == "cpu"
    (other,), (back,) = (
        await generate_images(second, image_task()),
        await generate_images(first, image_task()),
    )
    assert np.array_equal(other, wanted)
    assert np.array_equal(back, wanted)
    await second.stop()
    await first.stop()


async def test_the_profile_memory_keeps_the_denoiser_alone_on_the_device(
    model: Path, tmp_path: Path
) -> None:
    """Of an image that is one tile the bytes are the same."""
    usual, saving = (copied(model, tmp_path / name, profile=name) for name in PROFILES)
    await usual.start()
    await saving.start()
    (wanted,), (made,) = (
        await generate_images(usual, image_task()),
        await generate_images(saving, image_task()),
    )
    assert places(usual) == {"unet": "cuda", "vae": "cuda", "text": "cuda"}
    assert places(saving) == {"unet": "cuda", "vae": "cpu", "text": "cpu"}
    assert np.array_equal(made, wanted)
    await saving.stop()
    await usual.stop()


@pytest.mark.parametrize("faster", [{"profile": "speed"}, {"compile": "regions"}])
async def test_speed_changes_the_last_bits_alone(
    model: Path, tmp_path: Path, faster: dict[str, object]
) -> None:
    """Weights that lie by channels, and blocks that are compiled."""
    usual = copied(model, tmp_path / "1", precision="float32")
    fast = copied(model, tmp_path / "2", precision="float32", **faster)
    await usual.start()
    await fast.start()
    (wanted,), (made,) = (
        await generate_images(usual, image_task()),
        await generate_images(fast, image_task()),
    )
    assert np.abs(made.astype(int) - wanted).max() <= 4
    await fast.stop()
    await usual.stop()


async def test_the_size_that_is_named_does_fit(cuda: DiffusionEngine) -> None:
    """After what was too large has failed."""
    total = torch.cuda.get_device_properties(0).total_memory
    await generate_images(cuda, image_task(width=256, height=256))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**26) / total)
    try:
        with pytest.raises(OutOfMemoryError, match="largest picture that fits") as caught:
            await collect_events(cuda, image_task(width=2048, height=1024, steps=1))
        width, height = map(int, re.findall(r"is (\d+) x (\d+)$", str(caught.value))[0])
        assert await generate_images(cuda, image_task(width=width, height=height, steps=1))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


async def test_a_tiny_autoencoder_makes_previews_on_the_device(model: Path, tmp_path: Path) -> None:
    """In the precision of the denoiser."""
    AutoencoderTiny().save_pretrained(tmp_path / "taesd")
    engine = copied(model, tmp_path / "model", preview_model=str(tmp_path / "taesd"))
    await engine.start()
    events = await collect_events(engine, image_task(preview_interval=1))
    assert all(event.preview is not None for event in events if isinstance(event, Step))
    await engine.stop()
