"""Images of long prompts are those of diffusers' pipeline, given the same chunks, bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.task import ImageTask
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.test_parity import reference

LONG = "red apple and blue house " * 30


def pieces(pipeline: StableDiffusionXLPipeline, text: str) -> list[str]:
    """Whole words without commas, as many as are at most 75 tokens together."""
    found = [""]
    for word in text.split():
        longer = f"{found[-1]} {word}".strip()
        fits = len(pipeline.tokenizer(longer, add_special_tokens=False).input_ids) <= 75
        found[-1:] = [longer] if fits else [found[-1], word]
    return found


def embedded(
    pipeline: StableDiffusionXLPipeline, text: str, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pieces one behind the other, `count` of them, the first one pooled."""
    parts = pieces(pipeline, text)
    parts += [""] * (count - len(parts))
    made = [pipeline.encode_prompt(part, do_classifier_free_guidance=False) for part in parts]
    return torch.cat([hidden for hidden, _, _, _ in made], dim=1), made[0][2]


@pytest.mark.parametrize(
    "task",
    [
        image_task(prompt=LONG),
        image_task(prompt=LONG, guidance=1.0),
        image_task(prompt=LONG, negative_prompt=LONG[::-1], scheduler="euler_a"),
        image_task(prompt=LONG, negative_prompt="a blue house"),
        image_task(prompt="a red apple", negative_prompt=LONG, width=96),
    ],
    ids=["alone", "unguided", "both", "prompt", "negative"],
)
async def test_long_prompts_give_the_pipelines_bytes(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline, task: ImageTask
) -> None:
    """Without a negative prompt the other side is zeros of the same length."""
    texts = [text for text in (task.prompt, task.negative_prompt) if text]
    count = max(len(pieces(pipeline, text)) for text in texts)
    assert count > 5
    made = [embedded(pipeline, text, count) for text in texts]
    more = dict(zip(("prompt_embeds", "pooled_prompt_embeds"), made[0], strict=True))
    if task.negative_prompt:
        names = ("negative_prompt_embeds", "negative_pooled_prompt_embeds")
        more |= dict(zip(names, made[1], strict=True))
    own = pipeline.scheduler
    wanted = reference(pipeline, task, 7, "pil", **more)
    pipeline.scheduler = own
    (picture,) = await generate_images(engine, task)
    assert np.array_equal(picture, wanted)


async def test_the_end_of_a_long_prompt_counts(engine: DiffusionEngine) -> None:
    """No word is lost."""
    (one,) = await generate_images(engine, image_task(prompt=LONG + "red"))
    (other,) = await generate_images(engine, image_task(prompt=LONG + "blue"))
    assert not np.array_equal(one, other)


@pytest.fixture(scope="module")
def plain(model: Path) -> Iterator[DiffusionEngine]:
    """An engine that takes brackets for words."""
    config = DiffusionConfig(model=str(model), device="cpu", prompt_syntax="plain")
    made = DiffusionEngine(config)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_plain_syntax_gives_the_pipelines_bytes_for_brackets(
    plain: DiffusionEngine, pipeline: StableDiffusionXLPipeline
) -> None:
    """And for BREAK and backslashes."""
    task = image_task(prompt=r"a (red:1.5) [apple] \( BREAK", negative_prompt="(blue)")
    own = pipeline.scheduler
    wanted = reference(pipeline, task, 7)
    pipeline.scheduler = own
    (picture,) = await generate_images(plain, task)
    assert np.array_equal(picture, wanted)
