"""The small trained model, which an engine without configuration runs."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from atelier_engines.capabilities import Reproducibility
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.event import Output, Step
from atelier_engines.media import Pixels
from atelier_tiny import WEIGHTS
from tests.engines.diffusion.calls import collect_events, generate_images, image_task
from tests.engines.diffusion.test_onnx import psnr

TASK = image_task(
    prompt="a red heart", width=128, height=128, steps=4, guidance=2.5, preview_interval=1
)


@pytest.fixture(scope="module")
def tiny() -> Iterator[DiffusionEngine]:
    """The engine as it is without configuration, but on one thread of the CPU."""
    made = DiffusionEngine(DiffusionConfig(device="cpu"))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(scope="module")
def tiny_on_torch() -> Iterator[DiffusionEngine]:
    """The same, run by torch."""
    made = DiffusionEngine(DiffusionConfig(device="cpu", runtime="torch"))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


def test_onnx_runs_it(tiny: DiffusionEngine) -> None:
    """Which is faster; the capabilities and the versions say so."""
    found = tiny.capabilities
    assert set(found.runtimes.values()) == {"onnx"}
    assert len(found.runtimes) == 4
    assert not found.runtime_fallbacks
    assert "onnxruntime" in found.versions
    assert found.reproducibility is Reproducibility.SAME_ENGINE


async def test_its_images_are_the_pipelines(
    tiny_on_torch: DiffusionEngine, tiny: DiffusionEngine
) -> None:
    """Stored in float16, computed in float32, with the steps that the model was made for.

    With torch to the byte, and as it is without configuration to 40 dB.
    """
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        WEIGHTS, dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    wanted = pipeline(
        TASK.prompt,
        width=128,
        height=128,
        num_inference_steps=4,
        guidance_scale=2.5,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    (made,) = await generate_images(tiny_on_torch, TASK)
    assert np.array_equal(made, np.asarray(wanted))
    (usual,) = await generate_images(tiny, TASK)
    assert psnr(usual, made) >= 40


async def test_the_first_preview_already_resembles_the_image(tiny: DiffusionEngine) -> None:
    """The factors in atelier.json fit the weights beside it."""
    events = await collect_events(tiny, TASK)
    (picture,) = [
        Image.fromarray(event.media.array)
        for event in events
        if isinstance(event, Output) and isinstance(event.media, Pixels)
    ]
    wanted = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), float)
    previews = [event.preview for event in events if isinstance(event, Step)]
    assert len(previews) == 4
    for preview in previews:
        assert preview is not None
        shown = np.asarray(Image.open(io.BytesIO(preview.data)), float)
        assert np.corrcoef(shown.ravel(), wanted.ravel())[0, 1] > 0.8


def test_its_card_sets_the_defaults(tiny: DiffusionEngine) -> None:
    """Few steps and small images."""
    assert tiny.capabilities.image is not None
    assert tiny.capabilities.image.width.default == 128
    assert tiny.capabilities.image.models[0].name == "atelier-tiny"
