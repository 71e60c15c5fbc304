"""The engine's images are those of diffusers' StableDiffusionXLPipeline, bit by bit on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionXLPipeline,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from numpy.typing import NDArray

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.schedulers import NAMES
from atelier_engines.local.random_numbers import make_generator
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.task import ImageTask
from tests.engines.diffusion import tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.recording_family import RecordingFamily

Settings = dict[str, str | bool]

SDE: Settings = {"algorithm_type": "sde-dpmsolver++"}
KARRAS: Settings = {"use_karras_sigmas": True}

SCHEDULERS: dict[str, tuple[type[Any], Settings]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "ddpm": (DDPMScheduler, {"clip_sample": False}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
    "dpm2": (KDPM2DiscreteScheduler, {}),
    "dpm2_a": (KDPM2AncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, KARRAS),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, SDE),
    "dpmpp_2m_sde_karras": (DPMSolverMultistepScheduler, {**SDE, **KARRAS}),
    "dpmpp_sde": (DPMSolverSinglestepScheduler, SDE),
    "dpmpp_sde_karras": (DPMSolverSinglestepScheduler, {**SDE, **KARRAS}),
    "deis": (DEISMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
}


@pytest.fixture(autouse=True)
def _own_scheduler(pipeline: StableDiffusionXLPipeline) -> Iterator[None]:
    """The pipeline gets its own scheduler back after each test."""
    own = pipeline.scheduler
    yield
    pipeline.scheduler = own


def reference(
    pipeline: StableDiffusionXLPipeline,
    task: ImageTask,
    seed: int,
    output_type: str = "pil",
    **embeddings: torch.Tensor,
) -> NDArray[np.generic]:
    """What diffusers makes of one seed of the task, or of embeddings in place of its words."""
    kind, settings = SCHEDULERS[task.scheduler]
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **settings)
    made = pipeline(
        None if embeddings else task.prompt,
        negative_prompt=None if embeddings else task.negative_prompt or None,
        width=task.width,
        height=task.height,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        generator=make_generator(seed),  # the same as torch's below 2**32: see test_seeds.py
        output_type=output_type,
        **embeddings,
    )
    return np.asarray(made.images[0])


def test_every_scheduler_is_compared() -> None:
    """A scheduler that is added to the engine has to be added here."""
    assert set(NAMES) == set(SCHEDULERS)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_every_scheduler_gives_the_pipelines_bytes(
    engine: DiffusionEngine,
    pipeline: StableDiffusionXLPipeline,
    scheduler: str,
    guidance: float,
) -> None:
    """With and without guidance, random schedulers included."""
    task = image_task(scheduler=scheduler, guidance=guidance, steps=4)
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(pipeline, task, 7))


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
        image_task(steps=20, scheduler="dpmpp_2m"),
        image_task(guidance=0.0),
        image_task(guidance=1.5, seeds=(2**63 - 1,)),
        image_task(guidance=30.0, seeds=(0,)),
    ],
    ids=lambda task: f"{task.width}x{task.height}-{task.scheduler}-{task.prompt[:8]}",
)
async def test_every_kind_of_task_gives_the_pipelines_bytes(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline, task: ImageTask
) -> None:
    """Sizes, prompts of all scripts, negative prompts, steps, seeds."""
    (made,) = await generate_images(engine, task)
    assert np.array_equal(made, reference(pipeline, task, task.seeds[0]))


async def test_each_image_of_several_is_the_one_its_seed_gives_alone(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline
) -> None:
    """An image does not depend on its neighbours in the task."""
    task = image_task(seeds=(1, 2, 1), scheduler="euler_a")
    made = await generate_images(engine, task)
    for seed, picture in zip(task.seeds, made, strict=True):
        assert np.array_equal(picture, reference(pipeline, task, seed))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_not_a_bit_is_lost_before_rounding(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline, scheduler: str
) -> None:
    """The images are equal as floats too, where bytes could hide a small difference."""
    loaded = engine.inspect()
    task = image_task(scheduler=scheduler, negative_prompt="blue")
    family = RecordingFamily(loaded.family)
    run_alone(replace(loaded, family=family), task, lambda _: None)
    (made,) = family.decoded
    floats = (made * 0.5 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(floats, reference(pipeline, task, 7, "np"))


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
async def test_a_model_that_encodes_the_empty_negative_prompt_is_followed(
    tmp_path: Path, prediction: str
) -> None:
    """force_zeros_for_empty_prompt and the kind of prediction are the model's to choose."""
    folder = tiny_sdxl.write(tmp_path, prediction=prediction)
    index = folder / "model_index.json"
    text = index.read_text("utf-8")
    assert '"force_zeros_for_empty_prompt": true' in text
    index.write_text(text.replace('prompt": true', 'prompt": false'), "utf-8")
    engine = DiffusionEngine(DiffusionConfig(model=str(folder), device="cpu"))
    await engine.start()
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    (made,) = await generate_images(engine, image_task())
    await engine.stop()
    assert np.array_equal(made, reference(pipeline, image_task(), 7))
