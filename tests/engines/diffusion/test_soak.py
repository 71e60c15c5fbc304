"""Through a crowd of requests of all kinds, every image is the one that it is alone."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

import pytest
import torch

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.batching import DenoiseRequest
from atelier_engines.diffusion.pipeline import Pipeline
from tests.engines.diffusion import random_requests, soak
from tests.engines.diffusion.calls import image_task
from tests.engines.diffusion.random_requests import Request

COUNT, SEED, CALLERS = 60, 10, 8


@pytest.fixture(autouse=True)
def _diffusers_may_warn() -> Iterator[None]:
    """Of a second LoRA in a model, which is what is asked of it here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        yield


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> DiffusionConfig:
    """A model with ControlNets and LoRAs."""
    return soak.configuration(tmp_path_factory.mktemp("soak"))


@pytest.fixture
async def crowded(configuration: DiffusionConfig) -> AsyncIterator[DiffusionEngine]:
    """The engine that is put through it."""
    async with soak.started(configuration) as engine:
        yield engine


@pytest.fixture
async def judge(configuration: DiffusionConfig) -> AsyncIterator[DiffusionEngine]:
    """The engine that paints everything alone."""
    async with soak.started(configuration) as engine:
        yield engine


async def test_a_mixed_crowd_gets_its_images_its_errors_and_leaves_nothing_behind(
    crowded: DiffusionEngine, judge: DiffusionEngine
) -> None:
    """`make soak` sends many more requests, and watches the memory."""
    requests = random_requests.draw(crowded.capabilities, count=COUNT, seed=SEED)
    tally = await soak.soak(crowded, judge, requests, callers=CALLERS)
    assert tally.wrong == []
    assert tally.astray == []
    assert tally.left_over == 0
    assert tally.outcomes.total() == COUNT
    assert {"finished", "left", "InvalidTaskError", "UnsupportedError", "OutOfMemoryError"} == set(
        tally.outcomes
    )
    assert tally.pictures > COUNT / 2
    assert max(tally.runs) > 1
    assert tally.pressed


def test_the_crowd_asks_for_everything_that_the_engine_can_do(crowded: DiffusionEngine) -> None:
    """And for the same, when it is drawn again."""
    requests = random_requests.draw(crowded.capabilities, count=COUNT, seed=SEED)
    tasks = [request.task for request in requests if request.expected is None]
    assert crowded.capabilities.image is not None
    assert {ImageFeature.CONTROLNET, ImageFeature.LORA} <= crowded.capabilities.image.features
    assert len({task.scheduler for task in tasks}) > 10
    assert len({task.loras for task in tasks}) > 3
    assert any(len(task.controls) > 1 for task in tasks)
    assert any(control.preprocess for task in tasks for control in task.controls)
    assert any(task.mask is not None for task in tasks)
    assert any(request.leaves_after_seconds is not None for request in requests)
    assert any(request.leaves_after_events is not None for request in requests)
    again = random_requests.draw(crowded.capabilities, count=COUNT, seed=SEED)
    assert [request.task.seeds for request in again] == [r.task.seeds for r in requests]
    assert [request.task.prompt for request in again] == [r.task.prompt for r in requests]


class Mixed(Pipeline):
    """Hands neighbours each other's predictions."""

    def predict(self, runs: Sequence[DenoiseRequest]) -> tuple[torch.Tensor, ...]:
        """See Pipeline.predict."""
        return super().predict(runs)[::-1]


async def test_images_that_are_mixed_up_do_not_pass(
    crowded: DiffusionEngine, judge: DiffusionEngine
) -> None:
    """Else the soak would prove nothing."""
    loop, pipeline = soak.parts(crowded)
    crowded._pipeline = Mixed(**{name: getattr(pipeline, name) for name in pipeline.__slots__})
    tasks = [image_task(seeds=(seed,), steps=2, guidance=1.0) for seed in range(4)]
    tally = await soak.soak(
        crowded, judge, [Request(task=task) for task in tasks], callers=len(tasks)
    )
    assert tally.wrong
    await loop.call(partial(setattr, crowded, "_pipeline", pipeline))
