"""Images with textual inversion embeddings: they change what they are to change, and leave nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import ModelMissingError, UnsupportedError
from atelier_engines.event import Output
from atelier_engines.task import ImageTask, Lora
from tests.engines.diffusion import write_adapters
from tests.engines.diffusion.calls import collect_events, generate_images, image_task


def tensors(seed: int, *, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Two vectors for each text encoder of the random model."""
    torch.manual_seed(seed)
    return {"clip_l": torch.randn(2, 32) * scale, "clip_g": torch.randn(2, 64) * scale}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Embeddings, and a LoRA that brings one along."""
    made = tmp_path_factory.mktemp("embeddings")
    for seed, name in enumerate(("ugly", "style")):
        save_file(tensors(seed), made / f"{name}.safetensors")
    save_file({"emb_params": torch.ones(1, 768)}, made / "older.safetensors")
    lora = write_adapters.write_lora(made / "loras" / "ink", model, seed=1)
    bundled = {f"bundle_emb.drop.{key}": tensor for key, tensor in tensors(0).items()}
    path = lora / write_adapters.LORA_FILE
    save_file({**load_file(path), **bundled}, path)
    return made


@pytest.fixture
async def made(folder: Path, model: Path) -> AsyncIterator[DiffusionEngine]:
    """A started engine that runs several images at once."""
    engine = DiffusionEngine(
        DiffusionConfig(
            model=str(model),
            device="cpu",
            embedding_directory=str(folder),
            lora_directory=str(folder / "loras"),
            max_batch=4,
        )
    )
    await engine.start()
    yield engine
    await engine.stop()


async def image(engine: DiffusionEngine, task: ImageTask) -> np.ndarray:
    """The only image of the task."""
    (found,) = await generate_images(engine, task)
    return found.astype(int)


PLAIN = image_task(steps=2, negative_prompt="fog")
STYLED = image_task(prompt="a red (style:1.3) apple " + "red " * 90, steps=2, embeddings=("style",))
AVOIDED = image_task(steps=2, negative_prompt="fog, embedding:ugly", embeddings=("ugly",))
INKED = image_task(prompt="a drop", steps=2, loras=(Lora(name="ink"),), embeddings=("drop",))


async def test_each_image_is_the_same_alone_in_turn_and_in_company(
    made: DiffusionEngine, folder: Path
) -> None:
    """A, B, A to the bit; in one run of the denoiser within its rounding; the digests are told."""
    tasks = (PLAIN, STYLED, AVOIDED, INKED)
    alone = [await image(made, task) for task in tasks]
    for first, second in ((0, 2), (1, 0), (2, 1)):
        assert np.abs(alone[first] - alone[second]).max() > 3
    for task, wanted in zip((*tasks, *reversed(tasks)), (*alone, *reversed(alone)), strict=True):
        assert np.array_equal(await image(made, task), wanted)
    for found, wanted in zip(
        await asyncio.gather(*(image(made, task) for task in tasks)), alone, strict=True
    ):
        assert np.abs(found - wanted).max() <= 1
    (output,) = (one for one in await collect_events(made, AVOIDED) if isinstance(one, Output))
    digest = hashlib.sha256((folder / "ugly.safetensors").read_bytes()).hexdigest()
    assert output.weights == {"embedding ugly": digest}


async def test_what_a_lora_brings_along_needs_the_lora(made: DiffusionEngine) -> None:
    """With it the word stands for the same vectors as in a file of its own."""
    image_capabilities = made.capabilities.image
    assert image_capabilities is not None
    assert image_capabilities.embeddings == ("older", "style", "ugly")
    assert image_capabilities.lora_embeddings == {"ink": ("drop",)}
    ugly = image_task(prompt="a ugly", steps=2, loras=INKED.loras, embeddings=("ugly",))
    assert np.array_equal(await image(made, INKED), await image(made, ugly))
    unused = image_task(prompt="a drop", steps=2, loras=INKED.loras)
    assert not np.array_equal(await image(made, INKED), await image(made, unused))
    with pytest.raises(UnsupportedError, match="no embedding 'drop' here"):
        await image(made, image_task(prompt="a drop", embeddings=("drop",)))


async def test_one_for_another_model_fails_its_task_alone(made: DiffusionEngine) -> None:
    """By name; the next task is as before."""
    before = await image(made, PLAIN)
    with pytest.raises(ModelMissingError, match="the embedding older does not match this model"):
        await image(made, image_task(prompt="older", embeddings=("older",)))
    assert np.array_equal(await image(made, PLAIN), before)
