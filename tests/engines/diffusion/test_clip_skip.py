"""The layer of the text encoders that a task chooses gives diffusers' images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from atelier_engines.capabilities import IntegerRange
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.task import ImageTask
from tests.engines.diffusion import tiny_sd, tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task

LAYERS = {
    "sd15": IntegerRange(min=1, max=3, default=1),
    "sd21": IntegerRange(min=2, max=4, default=2),
    "sdxl": IntegerRange(min=1, max=3, default=2),
}
"""Of the small models, whose text encoders have three; that of 2.1 stands for one with four."""


def write(root: Path, kind: str) -> Path:
    """A model directory."""
    match kind:
        case "sd15" | "sd21":
            return tiny_sd.write(root, "sd15" if kind == "sd15" else "sd21")
        case _:
            return tiny_sdxl.write(root)


@pytest.mark.parametrize("kind", LAYERS)
async def test_every_layer_gives_diffusers_images(tmp_path: Path, kind: str) -> None:
    """Which counts from the layer that is usual in the family, and norms where that is normed."""
    model, layers = write(tmp_path, kind), LAYERS[kind]
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cpu"))
    await engine.start()
    assert engine.capabilities.image is not None
    assert engine.capabilities.image.clip_skip == layers
    pipeline = load(model)
    (usual,) = await generate_images(engine, image_task(scheduler="", guidance=1.0))
    for layer in range(layers.min, layers.max + 1):
        task = image_task(scheduler="", guidance=1.0, clip_skip=layer)
        (made,) = await generate_images(engine, task)
        assert np.array_equal(made, usual) == (layer == layers.default)
        wanted = reference(pipeline, task, clip_skip=(layer - layers.default) or None)
        assert np.array_equal(made, wanted), layer
    await engine.stop()


async def test_the_negative_prompt_is_encoded_by_the_same_layer(tmp_path: Path) -> None:
    """As in ComfyUI; diffusers takes the usual layer for it."""
    model = write(tmp_path, "sd15")
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cpu"))
    await engine.start()
    task = image_task(scheduler="", negative_prompt="blue", clip_skip=2)
    (made,) = await generate_images(engine, task)
    await engine.stop()
    pipeline = load(model)
    embeds = [
        pipeline.encode_prompt(
            text, torch.device("cpu"), 1, do_classifier_free_guidance=False, clip_skip=1
        )[0]
        for text in (task.prompt, task.negative_prompt)
    ]
    wanted = reference(pipeline, task, prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1])
    assert np.array_equal(made, wanted)


def load(model: Path) -> DiffusionPipeline:
    """Diffusers' pipeline, whose `clip_skip` looks for a part that transformers 5.23 has dissolved."""
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    encoder = pipeline.text_encoder
    if not hasattr(encoder, "text_model"):
        encoder.__dict__["text_model"] = encoder
    return pipeline


def reference(pipeline: DiffusionPipeline, task: ImageTask, **more: object) -> NDArray[np.uint8]:
    """What diffusers makes of the task."""
    made = pipeline(
        **({} if "prompt_embeds" in more else {"prompt": task.prompt}),
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        generator=torch.Generator("cpu").manual_seed(task.seeds[0]),
        width=task.width,
        height=task.height,
        **more,
    )
    return np.asarray(made.images[0])
