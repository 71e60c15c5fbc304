"""Variations and inpainting are those of diffusers' pipelines, bit by bit on the CPU."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask
from tests.engines.diffusion import tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.test_parity import SCHEDULERS


def photo(width: int = 64, height: int = 64) -> Pixels:
    """An image full of detail."""
    random = np.random.default_rng(5)
    return Pixels(array=random.integers(0, 256, (height, width, 3), np.uint8))


def mask(width: int = 64, height: int = 64) -> Pixels:
    """White in the middle, with a soft edge."""
    array = np.zeros((height, width, 1), np.uint8)
    array[16:40, 8:48] = 255
    array[40:44, 8:48] = 128
    array[44:48, 8:48] = 127
    return Pixels(array=array)


def reference(
    pipeline: StableDiffusionXLImg2ImgPipeline | StableDiffusionXLInpaintPipeline, task: ImageTask
) -> NDArray[np.uint8]:
    """What diffusers makes of the task."""
    kind, settings = SCHEDULERS[task.scheduler]
    own = pipeline.scheduler
    pipeline.scheduler = kind.from_config(own.config, **settings)
    pipeline.set_progress_bar_config(disable=True)
    assert task.init_image is not None
    more = {}
    if task.mask is not None:
        picture = Image.fromarray(task.mask.array[:, :, 0])
        more = {"mask_image": picture, "width": task.width, "height": task.height}
    made = pipeline(
        task.prompt,
        image=Image.fromarray(task.init_image.array),
        negative_prompt=task.negative_prompt or None,
        strength=task.strength,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        generator=torch.Generator("cpu").manual_seed(task.seeds[0]),
        **more,
    )
    pipeline.scheduler = own
    return np.asarray(made.images[0])


@pytest.fixture(scope="module")
def varying(pipeline: StableDiffusionXLPipeline) -> StableDiffusionXLImg2ImgPipeline:
    """The same model, for variations."""
    return StableDiffusionXLImg2ImgPipeline(**pipeline.components, add_watermarker=False)


@pytest.fixture(scope="module")
def repainting(pipeline: StableDiffusionXLPipeline) -> StableDiffusionXLInpaintPipeline:
    """The same model, for inpainting."""
    return StableDiffusionXLInpaintPipeline(**pipeline.components, add_watermarker=False)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_variations_are_the_pipelines_with_every_scheduler(
    engine: DiffusionEngine, varying: StableDiffusionXLImg2ImgPipeline, scheduler: str
) -> None:
    """The same noise over the same latents, from the same step on."""
    task = image_task(init_image=photo(), strength=0.6, steps=6, scheduler=scheduler)
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(varying, task))


@pytest.mark.parametrize(
    "task",
    [
        image_task(init_image=photo(), strength=1.0, steps=4),
        image_task(init_image=photo(), strength=0.3, steps=4, seeds=(11,)),
        image_task(init_image=photo(96, 72), width=96, height=72, strength=0.8),
        image_task(init_image=photo(), strength=0.8, guidance=1.0),
        image_task(init_image=photo(), strength=0.8, negative_prompt="a blue house"),
    ],
    ids=lambda task: f"{task.width}x{task.height}-{task.strength}-{task.guidance}",
)
async def test_variations_are_the_pipelines_at_every_strength(
    engine: DiffusionEngine, varying: StableDiffusionXLImg2ImgPipeline, task: ImageTask
) -> None:
    """Sizes, strengths, seeds, with and without guidance."""
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(varying, task))


async def test_no_strength_keeps_the_image_as_the_autoencoder_has_it(
    engine: DiffusionEngine,
) -> None:
    """Nothing is denoised, and the scheduler, the prompt and the steps do not matter."""
    kept = await generate_images(engine, image_task(init_image=photo(), strength=0.0))
    other = image_task(
        init_image=photo(), strength=0.0, prompt="a blue house", scheduler="ddim", steps=9
    )
    assert np.array_equal(kept, await generate_images(engine, other))


async def test_an_image_of_another_size_is_brought_to_the_tasks(engine: DiffusionEngine) -> None:
    """By Lanczos, as diffusers does it."""
    small = Image.fromarray(photo(96, 120).array).resize((64, 64), Image.Resampling.LANCZOS)
    made = await generate_images(
        engine, image_task(init_image=photo(96, 120), strength=0.5, steps=4)
    )
    wanted = image_task(init_image=Pixels(array=np.asarray(small)), strength=0.5, steps=4)
    assert np.array_equal(made, await generate_images(engine, wanted))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_inpainting_is_the_pipelines_with_every_scheduler(
    engine: DiffusionEngine, repainting: StableDiffusionXLInpaintPipeline, scheduler: str
) -> None:
    """The kept part is laid over the latents after every run."""
    task = image_task(init_image=photo(), mask=mask(), strength=0.6, steps=6, scheduler=scheduler)
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(repainting, task))


@pytest.mark.parametrize(
    "task",
    [
        image_task(init_image=photo(), mask=mask(), strength=1.0, steps=4),
        image_task(init_image=photo(), mask=mask(), strength=0.99, steps=4, guidance=1.0),
        image_task(init_image=photo(), mask=mask(), strength=0.5, steps=4, negative_prompt="blue"),
        image_task(init_image=photo(96, 72), mask=mask(96, 72), width=96, height=72, strength=0.7),
        image_task(init_image=photo(), mask=mask(32, 32), strength=0.7),
    ],
    ids=lambda task: f"{task.width}x{task.height}-{task.strength}-{task.guidance}",
)
async def test_inpainting_is_the_pipelines_at_every_strength(
    engine: DiffusionEngine, repainting: StableDiffusionXLInpaintPipeline, task: ImageTask
) -> None:
    """Sizes, strengths, masks of another size, with and without guidance."""
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(repainting, task))


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DiffusionEngine, Path]]:
    """A model whose denoiser was made to inpaint, and its directory."""
    folder = tiny_sdxl.write(tmp_path_factory.mktemp("inpaint"), channels=9)
    made = DiffusionEngine(DiffusionConfig(model=str(folder), device="cpu", mask_mode="latent"))
    asyncio.run(made.start())
    yield made, folder
    asyncio.run(made.stop())


@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize("scheduler", ["euler", "euler_a"])
async def test_a_model_made_to_inpaint_takes_the_mask_as_channels(
    inpainter: tuple[DiffusionEngine, Path], scheduler: str, strength: float
) -> None:
    """Nine channels: latents, mask, masked image."""
    engine, folder = inpainter
    pipeline = StableDiffusionXLInpaintPipeline.from_pretrained(folder, add_watermarker=False)
    task = image_task(
        init_image=photo(), mask=mask(), strength=strength, steps=5, scheduler=scheduler
    )
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(pipeline, task))
