"""On the trained weights too, the engine gives what diffusers' pipelines give, bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType, ImageTask, Lora
from atelier_tiny import CONTROLNETS, LORAS, WEIGHTS
from tests.engines.diffusion import test_controls_parity, test_parity, test_parity_init_images
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.test_parity_init_images import mask, photo


def star(width: int, height: int) -> Pixels:
    """A map: the edges of a square that stands on its corner."""
    down, across = np.mgrid[0:height, 0:width]
    away = np.abs(down - height // 2) + np.abs(across - width // 2)
    edge = np.where(away == min(width, height) // 3, 255, 0).astype(np.uint8)
    return Pixels(array=np.repeat(edge[:, :, None], 3, axis=2))


def usual(side: int = 128, **changes: object) -> ImageTask:
    """A task as the model was made for."""
    return image_task(
        **{
            "prompt": "a green apple",
            "width": side,
            "height": side,
            "steps": 4,
            "guidance": 2.5,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def tiny() -> Iterator[DiffusionEngine]:
    """The small model, run by torch as diffusers does, on one thread of the CPU."""
    made = DiffusionEngine(
        DiffusionConfig(device="cpu", runtime="torch", max_batch=1, mask_mode="latent")
    )
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(scope="module")
def trained(tiny: DiffusionEngine) -> StableDiffusionXLPipeline:
    """The same weights in diffusers' hands, after the engine has set the number of threads."""
    del tiny
    made = StableDiffusionXLPipeline.from_pretrained(
        WEIGHTS, dtype=torch.float32, add_watermarker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    "task",
    [
        usual(),
        usual(64, seeds=(1,), scheduler="euler_a"),
        usual(96, seeds=(2,), scheduler="dpmpp_2m", steps=6),
        usual(width=128, height=64, scheduler="ddim", negative_prompt="a red heart"),
        usual(guidance=1.0, scheduler="lcm", seeds=(4,)),
    ],
    ids=lambda task: f"{task.width}x{task.height}-{task.scheduler}",
)
async def test_images_from_words_are_the_pipelines(
    tiny: DiffusionEngine, trained: StableDiffusionXLPipeline, task: ImageTask
) -> None:
    """Sizes, schedulers, seeds, guidances."""
    own = trained.scheduler
    (made,) = await generate_images(tiny, task)
    assert np.array_equal(made, test_parity.reference(trained, task, task.seeds[0]))
    trained.scheduler = own


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "unipc"])
@pytest.mark.parametrize("side", [64, 128])
async def test_variations_and_inpainting_are_the_pipelines(
    tiny: DiffusionEngine, trained: StableDiffusionXLPipeline, scheduler: str, side: int
) -> None:
    """From a photo, with and without a mask."""
    varied = usual(side, init_image=photo(side, side), strength=0.7, scheduler=scheduler)
    repainted = usual(
        side, init_image=photo(side, side), mask=mask(side, side), strength=0.8, scheduler=scheduler
    )
    for kind, task in (
        (StableDiffusionXLImg2ImgPipeline, varied),
        (StableDiffusionXLInpaintPipeline, repainted),
    ):
        pipeline = kind(**trained.components, add_watermarker=False)
        (made,) = await generate_images(tiny, task)
        assert np.array_equal(made, test_parity_init_images.reference(pipeline, task))


@pytest.mark.parametrize("start", [None, photo(128, 128)], ids=["words", "picture"])
@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m"])
async def test_controlled_images_are_the_pipelines(
    tiny: DiffusionEngine,
    trained: StableDiffusionXLPipeline,
    scheduler: str,
    start: Pixels | None,
) -> None:
    """With the ControlNet that comes with the model, from words and from an image."""
    control = Control(type=ControlType.CANNY, image=star(128, 128), strength=0.9, end=0.8)
    task = usual(controls=(control,), scheduler=scheduler, init_image=start, strength=0.8)
    nets = {
        ControlType.CANNY: ControlNetModel.from_pretrained(
            CONTROLNETS["canny"], dtype=torch.float32
        )
    }
    parts: dict[str, Any] = {"components": trained.components, "nets": nets}
    (made,) = await generate_images(tiny, task)
    assert np.array_equal(made, test_controls_parity.reference(parts, task))
    (without,) = await generate_images(tiny, usual(scheduler=scheduler))
    assert not np.array_equal(made, without)


async def test_images_with_its_lora_are_the_pipelines_and_leave_no_trace(
    tiny: DiffusionEngine,
) -> None:
    """At weight 0 the plain image, at 1 the pipeline's, and then the plain one again."""
    (before,) = await generate_images(tiny, usual())
    (at_zero,) = await generate_images(tiny, usual(loras=(Lora(name="sketch", weight=0.0),)))
    (worn,) = await generate_images(tiny, usual(loras=(Lora(name="sketch"),)))
    (after,) = await generate_images(tiny, usual())
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        WEIGHTS, dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(LORAS["sketch"], adapter_name="sketch")
    pipeline.set_adapters("sketch", 1.0)
    assert np.array_equal(worn, test_parity.reference(pipeline, usual(), 7))
    assert np.array_equal(before, at_zero)
    assert np.array_equal(before, after)
    assert np.ptp(worn.astype(int), axis=2).mean() < np.ptp(before.astype(int), axis=2).mean() / 5
