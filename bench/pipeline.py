"""One image at a time: the engine compared with diffusers' pipeline, and the cost of previews."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray

from atelier_engines.diffusion import DiffusionEngine
from atelier_tiny import WEIGHTS
from bench.engines import (
    GUIDANCE,
    SIDES,
    STEPS,
    Duration,
    generate,
    make_task,
    start_engine,
    time_work,
)
from bench.figures import Figure, median

_ROUNDS = 31
_BARE, _NEW, _KEPT, _SHOWN = "pipeline", "engine", "engine, prompt known", "engine, previews"


async def measure() -> list[Figure]:
    """Every round generates the same image in all ways, in turns, from a new prompt."""
    figures: list[Figure] = []
    async with start_engine(runtime="torch") as engine:  # its bits are those of diffusers
        pipeline = _load_pipeline()
        for side in SIDES:
            await _require_equal(engine, pipeline, side)
            rounds = [
                await _measure_round(engine, pipeline, side, index) for index in range(_ROUNDS)
            ]
            figures += _make_figures(side, rounds[1:])
    return figures


def _load_pipeline() -> StableDiffusionXLPipeline:
    made: StableDiffusionXLPipeline = StableDiffusionXLPipeline.from_pretrained(
        WEIGHTS, dtype=torch.float32, add_watermarker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


async def _require_equal(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline, side: int
) -> None:
    """Compare bytes, so that it is the same work that is measured."""
    for seed in range(3):
        prompt = f"a red heart {seed}"
        ours = await generate(engine, make_task(prompt, side, seed))
        if not np.array_equal(ours, await _run_diffusers(pipeline, prompt, side, seed)):
            raise RuntimeError(f"the images of seed {seed} at {side} px differ")


async def _run_diffusers(
    pipeline: StableDiffusionXLPipeline, prompt: str, side: int, seed: int
) -> NDArray[np.uint8]:
    """The image by diffusers, on a thread of its own as in a service."""
    return await asyncio.to_thread(partial(_call, pipeline, prompt, side, seed))


def _call(
    pipeline: StableDiffusionXLPipeline, prompt: str, side: int, seed: int
) -> NDArray[np.uint8]:
    torch.set_num_threads(1)  # as in the engine; OpenMP counts them for each thread anew
    made = pipeline(
        prompt,
        width=side,
        height=side,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator("cpu").manual_seed(seed),
    )
    return np.asarray(made.images[0])


async def _measure_round(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline, side: int, index: int
) -> Mapping[str, Duration]:
    prompt = f"a blue boat, number {index} of {side}"
    ways = {
        _BARE: partial(_run_diffusers, pipeline, prompt, side, index),
        _NEW: partial(generate, engine, make_task(prompt, side, index)),
        _KEPT: partial(generate, engine, make_task(prompt, side, index)),
        _SHOWN: partial(generate, engine, make_task(prompt, side, index, previews=1)),
    }
    order = list(ways) if index % 2 else [_NEW, _KEPT, _SHOWN, _BARE]
    return {name: await time_work(ways[name]) for name in order}


def _make_figures(side: int, rounds: Sequence[Mapping[str, Duration]]) -> list[Figure]:
    figures = [
        Figure(
            name=f"{side} px: {name}",
            value=median([of[name].wall for of in rounds]) * 1e3,
            unit="ms",
        )
        for name in (_BARE, _NEW, _KEPT, _SHOWN)
    ]
    for what, first, second in (
        ("engine against pipeline, prompts new to both", _BARE, _NEW),
        ("engine against pipeline, prompts known", _BARE, _KEPT),
    ):
        figures += [
            Figure(
                name=f"{side} px: {what}, throughput",
                value=median([of[first].wall / of[second].wall for of in rounds]),
                unit="×",
                bound="at least",
                target=0.98,
            ),
            Figure(
                name=f"{side} px: {what}, images a CPU second",
                value=median([of[first].cpu / of[second].cpu for of in rounds]),
                unit="×",
                bound="at least",
                target=0.98,
            ),
        ]
    for what, first, second in (
        ("prompt known against new", _KEPT, _NEW),
        ("a preview every step against none", _SHOWN, _KEPT),
    ):
        figures.append(
            Figure(
                name=f"{side} px: {what}, CPU time",
                value=median([of[first].cpu / of[second].cpu for of in rounds]),
                unit="×",
            )
        )
    return figures
