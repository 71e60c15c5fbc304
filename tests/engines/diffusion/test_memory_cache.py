"""Engines share components, and take turns where they do not fit together."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local.model_cache import MODEL_CACHE
from atelier_engines.local.torch_module import count_bytes
from atelier_engines.local.weights import safetensors_header
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.inspection import unet_of

CPU = torch.device("cpu")


def test_the_estimate_is_what_the_network_takes(model: Path) -> None:
    """Read from the files' headers, in the precision that is asked for."""
    files = tuple((model / "unet").glob("*.safetensors"))
    for dtype in (torch.float32, torch.bfloat16):
        unet = UNet2DConditionModel.from_pretrained(model / "unet", dtype=dtype)
        assert safetensors_header.estimate_bytes(files, dtype) == count_bytes(unet)


@pytest.fixture
def _no_budget() -> Iterator[None]:
    """Afterwards, what the tests before had is theirs again."""
    yield
    MODEL_CACHE.set_budget(CPU, None)


def made(folder: Path, **settings: object) -> DiffusionEngine:
    """An engine on one CPU thread."""
    usual = {"model": str(folder), "device": "cpu"}
    return DiffusionEngine(DiffusionConfig.model_validate({**usual, **settings}))


def bytes_of(engine: DiffusionEngine) -> int:
    """What all its components take on their device now."""
    parts = engine.inspect().components.status()
    return sum(part.nbytes for part in parts if part.on_device)


async def test_engines_with_the_same_files_share_their_networks(
    model: Path, engine: DiffusionEngine
) -> None:
    """Working at once they make what each makes alone, and one stays when the other stops."""
    other = made(model)
    await other.start()
    assert unet_of(other) is unet_of(engine)
    tasks = [image_task(seeds=(seed,), steps=4) for seed in range(4)]
    alone = [await generate_images(engine, task) for task in tasks]
    owners = (engine, other, engine, other)
    together = await asyncio.gather(
        *(generate_images(owner, task) for owner, task in zip(owners, tasks, strict=True))
    )
    await other.stop()
    for (one,), (same,) in zip(alone, together, strict=True):
        assert np.array_equal(one, same)
    (again,) = await generate_images(engine, tasks[0])
    assert np.array_equal(again, alone[0][0])


async def test_engines_of_another_precision_share_nothing(
    model: Path, engine: DiffusionEngine
) -> None:
    """What computes in other numbers is another network."""
    other = made(model, precision="bfloat16")
    await other.start()
    assert unet_of(other) is not unet_of(engine)
    await other.stop()


@pytest.mark.usefixtures("_no_budget")
async def test_engines_that_do_not_fit_together_take_turns(model: Path, tmp_path: Path) -> None:
    """What was put away comes back from its files and makes the same images."""
    first = made(shutil.copytree(model, tmp_path / "1"))
    second_folder = shutil.copytree(model, tmp_path / "2")
    await first.start()
    (wanted,) = await generate_images(first, image_task())
    needed = bytes_of(first)
    second = made(second_folder, memory_budget=needed * 1.2)
    await second.start()
    assert count_bytes(unet_of(first)) == 0
    assert count_bytes(unet_of(second)) > 0
    (back,), (other,) = await asyncio.gather(
        generate_images(first, image_task()), generate_images(second, image_task())
    )
    assert np.array_equal(back, wanted)
    assert np.array_equal(other, wanted)
    await second.stop()
    await first.stop()


@pytest.mark.usefixtures("_no_budget")
async def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(
    model: Path, tmp_path: Path
) -> None:
    """The message names what is needed and what is there."""
    before = MODEL_CACHE.keys
    engine = made(shutil.copytree(model, tmp_path / "model"), memory_budget=100_000)
    with pytest.raises(OutOfMemoryError, match=r"needs \d{6,} bytes, and 100000 are available"):
        await engine.start()
    assert MODEL_CACHE.keys == before


@pytest.mark.usefixtures("_no_budget")
async def test_a_pinned_engine_keeps_its_networks(model: Path, tmp_path: Path) -> None:
    """Another one that needs their room does not start."""
    pinned = made(shutil.copytree(model, tmp_path / "1"), keep_loaded=True)
    await pinned.start()
    needed = bytes_of(pinned)
    other = made(shutil.copytree(model, tmp_path / "2"), memory_budget=needed * 1.5)
    with pytest.raises(OutOfMemoryError):
        await other.start()
    assert bytes_of(pinned) == needed
    await pinned.stop()
    await other.start()
    await other.stop()


async def test_the_last_engine_to_stop_clears_the_shelf(model: Path, tmp_path: Path) -> None:
    """A failed start leaves nothing either."""
    before = MODEL_CACHE.keys
    folder = shutil.copytree(model, tmp_path / "model")
    engine = made(folder)
    await engine.start()
    assert MODEL_CACHE.keys > before
    await engine.stop()
    assert MODEL_CACHE.keys == before
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(Exception, match="scheduler_config"):
        await engine.start()
    assert MODEL_CACHE.keys == before
