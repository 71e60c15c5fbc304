"""What is taken for a model, and what is refused and how."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from tests.engines.diffusion import tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A model directory to spoil."""
    return shutil.copytree(model, tmp_path / "copy")


async def started(**config: object) -> DiffusionEngine:
    """An engine that was started with that configuration."""
    engine = DiffusionEngine(DiffusionConfig.model_validate({"device": "cpu", **config}))
    await engine.start()
    return engine


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON object in a file."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def to_pickle(folder: Path) -> None:
    """Put a pickle in place of the safetensors."""
    source = folder / UNET
    torch.save(load_file(source), source.with_suffix(".bin"))
    source.unlink()


def truncate(folder: Path) -> None:
    """Lose the second half of a file, as a broken download does."""
    source = folder / UNET
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def lose_a_tensor(folder: Path) -> None:
    """Save all but one; loaders would make random numbers of it."""
    path = folder / "text_encoder_2" / "model.safetensors"
    tensors = load_file(path)
    del tensors["text_projection.weight"]
    save_file(tensors, path, {"format": "pt"})


def lose_a_tensor_of_the_unet(folder: Path) -> None:
    """The other loader."""
    tensors = load_file(folder / UNET)
    del tensors["conv_in.bias"]
    save_file(tensors, folder / UNET, {"format": "pt"})


def reshape_a_tensor(folder: Path) -> None:
    """Weights of another model."""
    tensors = load_file(folder / UNET)
    tensors["conv_in.bias"] = torch.zeros(5)
    save_file(tensors, folder / UNET, {"format": "pt"})


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json is miss"),
    "broken index": (
        lambda folder: (folder / "model_index.json").write_text("{", "utf-8"),
        "cannot be read as JSON",
    ),
    "index is a list": (
        lambda folder: (folder / "model_index.json").write_text("[]", "utf-8"),
        "must hold a JSON object",
    ),
    "another pipeline": (
        lambda folder: change_json(folder / "model_index.json", _class_name="FluxPipeline"),
        "is a FluxPipeline, and not one of",
    ),
    "pickle": (to_pickle, r"diffusion_pytorch_model\.bin is refused"),
    "no weights": (lambda folder: (folder / UNET).unlink(), "no .safetensors weights in"),
    "no network": (lambda folder: shutil.rmtree(folder / "vae"), "vae/config.json is missing"),
    "truncated": (truncate, "bytes; its header announces [0-9]+"),
    "a tensor is missing": (lose_a_tensor, "text_projection.weight first"),
    "a tensor of the unet is missing": (lose_a_tensor_of_the_unet, "conv_in.bias first"),
    "a tensor has another shape": (reshape_a_tensor, "cannot be loaded|are incomplete"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "cannot be loaded"),
    "no scheduler": (
        lambda folder: shutil.rmtree(folder / "scheduler"),
        "scheduler_config.json is missing",
    ),
    "a scheduler that is none": (
        lambda folder: change_json(
            folder / "scheduler/scheduler_config.json", _class_name="AutoencoderKL"
        ),
        "is AutoencoderKL: it is not supported; supported are",
    ),
    "an inpainting model": (
        lambda folder: change_json(folder / "unet/config.json", in_channels=9),
        "cannot be loaded|in_channels|incomplete",
    ),
    "broken card": (
        lambda folder: (folder / "atelier.json").write_text('{"default_steps": 0}', "utf-8"),
        "no valid model card",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
async def test_a_spoiled_model_is_refused_with_a_reason(copy: Path, what: str) -> None:
    """The message names the file, or what is wrong with it."""
    spoil, reason = SPOILED[what]
    spoil(copy)
    with pytest.raises(ModelMissingError, match=reason):
        await started(model=str(copy))


async def test_a_file_of_one_network_is_no_model(copy: Path) -> None:
    """Nor is it taken for a model in another layout."""
    with pytest.raises(ModelMissingError, match="contains one component of a model"):
        await started(model=str(copy / UNET))


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Absolute paths are never taken for hub ids."""
    with pytest.raises(ModelMissingError, match=f"no model directory {tmp_path}/gone"):
        await started(model=str(tmp_path / "gone"))


async def test_a_hub_id_is_looked_for_in_the_cache_alone_when_download_is_off() -> None:
    """No network is used, and the message says so."""
    with pytest.raises(ModelMissingError, match="in the local cache, and download is off"):
        await started(model="nobody/has-this-model", download=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
async def test_a_device_that_is_not_there_is_named(model: Path) -> None:
    """Not taken for a broken model."""
    engine = DiffusionEngine(DiffusionConfig(model=str(model), device="cuda:3"))
    with pytest.raises(EngineUnavailableError, match="cuda:3 does not exist"):
        await engine.start()


async def test_a_model_of_a_single_variant_is_found_without_being_told(tmp_path: Path) -> None:
    """As fp16 models from the hub are."""
    folder = tiny_sdxl.write(tmp_path, variant="fp16")
    assert (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    engine = await started(model=str(folder))
    assert await generate_images(engine, image_task())
    await engine.stop()


async def test_a_variant_that_is_not_there_is_refused(model: Path) -> None:
    """A misspelt variant must not load something else in silence."""
    with pytest.raises(ModelMissingError, match="no weights of the variant fp61"):
        await started(model=str(model), variant="fp61")


def test_the_digest_can_be_repeated_with_sha256sum(engine: DiffusionEngine, model: Path) -> None:
    """It is the digest of sha256sum's lines for the weight files, sorted by path."""
    lines = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(model).as_posix()}\n"
        for path in sorted(model.glob("*/*.safetensors"))
    )
    assert lines.count("\n") == 4
    assert engine.capabilities.image is not None
    (found,) = engine.capabilities.image.models
    assert found.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert found == replace(found, name="model", family="sdxl")
