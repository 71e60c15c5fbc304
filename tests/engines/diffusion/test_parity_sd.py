"""The images of SD 1.5 and 2.1 are those of diffusers' StableDiffusionPipeline, bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.schedulers import NAMES, build
from atelier_engines.local.random_numbers import make_generator
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask
from tests.engines.diffusion import tiny_sd
from tests.engines.diffusion.calls import generate_images, image_task


@pytest.fixture(scope="module", params=["sd15", "sd21"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory."""
    return tiny_sd.write(tmp_path_factory.mktemp("sd"), request.param)


@pytest.fixture(scope="module")
def sd(folder: Path) -> Iterator[DiffusionEngine]:
    """A started engine on one CPU thread."""
    made = DiffusionEngine(DiffusionConfig(model=str(folder), device="cpu"))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionPipeline:
    """The same model in diffusers' pipeline."""
    made: StableDiffusionPipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(autouse=True)
def _own_scheduler(pipeline: StableDiffusionPipeline) -> Iterator[None]:
    """The pipeline gets its own scheduler back after each test."""
    own = pipeline.scheduler
    yield
    pipeline.scheduler = own


def reference(
    pipeline: StableDiffusionPipeline, task: ImageTask, **more: object
) -> NDArray[np.uint8]:
    """What diffusers makes of the task's first seed."""
    pipeline.scheduler = build(
        task.scheduler, pipeline.scheduler, steps=task.steps or 1, device=torch.device("cpu")
    )
    made = pipeline(
        task.prompt,
        negative_prompt=task.negative_prompt or None,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        generator=make_generator(
            task.seeds[0]
        ),  # the same as torch's below 2**32: see test_seeds.py
        **(more or {"width": task.width, "height": task.height}),
    )
    return np.asarray(made.images[0])


@pytest.mark.parametrize("scheduler", NAMES)
async def test_every_scheduler_gives_the_pipelines_bytes(
    sd: DiffusionEngine, pipeline: StableDiffusionPipeline, scheduler: str
) -> None:
    """With guidance, for noise (1.5) and for velocity (2.1)."""
    task = image_task(scheduler=scheduler, guidance=7.5, steps=4)
    (made,) = await generate_images(sd, task)
    assert np.array_equal(made, reference(pipeline, task))


@pytest.mark.parametrize(
    "task",
    [
        image_task(width=96, height=72),
        image_task(width=72, height=128, guidance=1.0),
        image_task(negative_prompt="a blue house"),
        image_task(negative_prompt="a blue house", guidance=1.0),
        image_task(negative_prompt="a blue house", scheduler="euler_a", steps=7),
        image_task(prompt=""),
        image_task(prompt="naïve — 猫 🍎!"),
        image_task(steps=1),
        image_task(guidance=0.0),
        image_task(guidance=1.5, seeds=(2**63 - 1,)),
    ],
    ids=lambda task: f"{task.width}x{task.height}-{task.scheduler}-{task.prompt[:8]}",
)
async def test_every_kind_of_task_gives_the_pipelines_bytes(
    sd: DiffusionEngine, pipeline: StableDiffusionPipeline, task: ImageTask
) -> None:
    """Sizes, prompts, negative prompts, steps, seeds; an empty negative prompt is encoded."""
    (made,) = await generate_images(sd, task)
    assert np.array_equal(made, reference(pipeline, task))


async def test_a_variation_gives_the_pipelines_bytes(
    sd: DiffusionEngine, pipeline: StableDiffusionPipeline
) -> None:
    """Image to image."""
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    task = image_task(init_image=Pixels(array=pixels), strength=0.6, steps=5)
    other = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    (made,) = await generate_images(sd, task)
    wanted = reference(other, task, image=Image.fromarray(pixels), strength=0.6)
    assert np.array_equal(made, wanted)


def test_the_family_is_told_apart(sd: DiffusionEngine, folder: Path) -> None:
    """By the denoiser's configuration, since diffusers' pipeline is the same."""
    assert sd.capabilities.image is not None
    assert sd.capabilities.image.models[0].family == folder.name
    assert sd.capabilities.image.guidance is not None
    assert sd.capabilities.image.guidance.default == 7.5
