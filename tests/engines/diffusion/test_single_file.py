"""Models that are one file in the layout of their original makers."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.weights.model_files import (
    CONFIGURATIONS,
    find_model_files,
    weight_files,
)
from atelier_engines.errors import ModelMissingError
from tests.engines.diffusion import original_layout, tiny_sd, tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task

KINDS = ("sd15", "sd21", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models in diffusers' layout; not to be changed."""
    root = tmp_path_factory.mktemp("folders")
    return {
        "sd15": tiny_sd.write(root / "1", "sd15"),
        "sd21": tiny_sd.write(root / "2", "sd21"),
        "sdxl": tiny_sdxl.write(root / "xl"),
    }


@pytest.fixture(scope="module")
def singles(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same, each as one file; not to be changed."""
    root = tmp_path_factory.mktemp("files")
    return {
        kind: original_layout.write(folder, root / f"{kind}.safetensors")
        for kind, folder in folders.items()
    }


async def started(**config: object) -> DiffusionEngine:
    """An engine that was started with that configuration, without any network."""
    engine = DiffusionEngine(
        DiffusionConfig.model_validate({"device": "cpu", "download": False, **config})
    )
    await engine.start()
    return engine


async def picture(**config: object) -> NDArray[np.uint8]:
    """What an engine of that configuration paints."""
    engine = await started(**config)
    (made,) = await generate_images(engine, image_task(negative_prompt="a blue house", steps=2))
    await engine.stop()
    return made


def without_weights(folder: Path, to: Path) -> Path:
    """Only what a single file lacks."""
    return shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_paints_what_its_directory_paints(
    folders: dict[str, Path], singles: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """With tokenizers and configurations from elsewhere, every weight finds its place."""
    base = without_weights(folders[kind], tmp_path / "base")
    from_file = await picture(model=str(singles[kind]), base=str(base))
    from_folder = await picture(model=str(folders[kind]))
    assert np.array_equal(from_file, from_folder)


async def test_a_file_has_its_own_name_and_digest(
    folders: dict[str, Path], singles: dict[str, Path]
) -> None:
    """The SHA-256 that people compare."""
    engine = await started(model=str(singles["sd21"]), base=str(folders["sd21"]))
    await engine.stop()
    assert engine.capabilities.image is not None
    (found,) = engine.capabilities.image.models
    assert (found.name, found.family) == ("sd21", "sd21")
    assert found.digest == hashlib.sha256(singles["sd21"].read_bytes()).hexdigest()


async def test_a_file_that_inpaints_is_known_by_its_shape(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Nine channels go in; the configuration that it is read with says four."""
    inpainting = tiny_sd.write(tmp_path, "sd15", channels=9)
    file = original_layout.write(inpainting, tmp_path / "one.safetensors")
    engine = await started(model=str(file), base=str(folders["sd15"]))
    assert engine.inspect().family.mask_channels
    await engine.stop()


async def test_a_file_without_an_autoencoder_is_completed_by_the_configured_one(
    folders: dict[str, Path], singles: dict[str, Path], tmp_path: Path
) -> None:
    """A directory or a file; without one the message says what to set."""
    path = tmp_path / "model.safetensors"
    tensors = load_file(singles["sdxl"])
    save_file({name: one for name, one in tensors.items() if "first_stage" not in name}, path)
    config = {"model": str(path), "base": str(folders["sdxl"])}
    with pytest.raises(ModelMissingError, match=r"contains no autoencoder.*set `vae`"):
        await started(**config)
    vae = folders["sdxl"] / "vae"
    whole = find_model_files(DiffusionConfig(model=str(folders["sdxl"])))
    for one in (vae, next(vae.glob("*.safetensors"))):
        found = find_model_files(DiffusionConfig.model_validate({**config, "vae": str(one)}))
        assert found.family == "sdxl"
        assert weight_files(found.components["vae"]) == weight_files(whole.components["vae"])
    made = await picture(**config, vae=str(vae))
    wanted = await picture(model=str(singles["sdxl"]), base=str(folders["sdxl"]))
    assert np.abs(made.astype(int) - wanted).max() <= 1


async def test_stable_diffusion_2_as_sgm_writes_it_is_no_refiner(
    folders: dict[str, Path], singles: dict[str, Path], tmp_path: Path
) -> None:
    """Its text encoder has the name of the refiner's."""
    path = tmp_path / "model.safetensors"
    renamed = {
        name.replace("cond_stage_model.", "conditioner.embedders.0."): tensor
        for name, tensor in load_file(singles["sd21"]).items()
    }
    save_file(renamed, path)
    made = await picture(model=str(path), base=str(folders["sd21"]))
    wanted = await picture(model=str(singles["sd21"]), base=str(folders["sd21"]))
    assert np.abs(made.astype(int) - wanted).max() <= 1


async def test_a_refiner_is_called_what_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    """In a directory, and in a file without an autoencoder."""
    copy = without_weights(folders["sdxl"], tmp_path / "copy")
    index = copy / "model_index.json"
    changes = {"_class_name": "StableDiffusionXLImg2ImgPipeline", "text_encoder": [None, None]}
    index.write_text(json.dumps({**json.loads(index.read_text("utf-8")), **changes}), "utf-8")
    names = ("model.diffusion_model.a", "conditioner.embedders.0.model.a")
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "refiner.safetensors")
    for model in (copy, tmp_path / "refiner.safetensors"):
        with pytest.raises(ModelMissingError, match="is a refiner of SDXL"):
            await started(model=str(model))


async def test_without_tokenizers_the_message_says_what_to_do(
    singles: dict[str, Path], tmp_path: Path
) -> None:
    """Nothing is fetched when download is off."""
    with pytest.raises(
        ModelMissingError, match=r"contains no tokenizer.*set `base`.*download is off"
    ):
        await started(model=str(singles["sd15"]), base="nobody/has-this-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissingError, match="has no tokenizer and tokenizer_2"):
        await started(model=str(singles["sdxl"]), base=str(tmp_path / "empty"))
    with pytest.raises(ModelMissingError, match="base: there is no directory /gone"):
        await started(model=str(singles["sdxl"]), base="/gone")


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ("first_stage_model.", "contains no autoencoder"),
        ("conditioner.embedders.1.", "contains no text encoder"),
        ("conditioner.embedders.1.model.ln_final.weight", "1 are missing.*final_layer_norm.weight"),
        ("model.diffusion_model.out.2.bias", "1 are missing.*conv_out.bias"),
        ("first_stage_model.decoder.mid.block_1.conv1.bias", "1 are missing.*conv1.bias"),
        ("model.diffusion_model.", "is not a model in the original layout"),
    ],
)
async def test_a_file_that_is_not_whole_is_refused(
    folders: dict[str, Path], singles: dict[str, Path], tmp_path: Path, lost: str, reason: str
) -> None:
    """Whatever is missing would be random numbers."""
    tensors = load_file(singles["sdxl"])
    path = tmp_path / "model.safetensors"
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith(lost)}, path)
    with pytest.raises(ModelMissingError, match=reason):
        await started(model=str(path), base=str(folders["sdxl"]))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["lora_unet_mid.lora_down.weight"], "is a LoRA"),
        (["double_blocks.0.img_attn.qkv.weight"], "another family"),
        (
            [
                "model.diffusion_model.a",
                "first_stage_model.a",
                "conditioner.embedders.0.model.a",
            ],
            "refiner",
        ),
    ],
)
async def test_files_of_another_kind_are_called_what_they_are(
    tmp_path: Path, names: list[str], reason: str
) -> None:
    """Instead of a list of tensors that are missing."""
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(ModelMissingError, match=reason):
        await started(model=str(path))


@pytest.mark.parametrize("ending", ["ckpt", "bin", "pt"])
async def test_a_pickle_is_refused(tmp_path: Path, ending: str) -> None:
    """It could run code."""
    path = tmp_path / f"model.{ending}"
    path.write_bytes(b"\x80")
    with pytest.raises(ModelMissingError, match="refused: loading such a file may run code"):
        await started(model=str(path))


@pytest.mark.parametrize("spoil", [lambda data: data[:5], lambda data: data[:-1], lambda _: b"{}"])
async def test_a_file_that_was_cut_off_is_refused(
    singles: dict[str, Path], tmp_path: Path, spoil: object
) -> None:
    """Before anything is loaded."""
    path = tmp_path / "model.safetensors"
    assert callable(spoil)
    path.write_bytes(spoil(singles["sd15"].read_bytes()))
    with pytest.raises(ModelMissingError, match=r"truncated|bytes; its header"):
        await started(model=str(path))


async def test_the_kind_of_prediction_can_be_told(
    folders: dict[str, Path], singles: dict[str, Path]
) -> None:
    """By the configuration, or by a mark in the file."""
    config = {"model": str(singles["sd21"]), "base": str(folders["sd21"])}
    velocity, noise = await picture(**config), await picture(**config, prediction_type="epsilon")
    assert not np.array_equal(velocity, noise)


async def test_a_mark_in_the_file_tells_a_model_for_velocity(
    folders: dict[str, Path], singles: dict[str, Path], tmp_path: Path
) -> None:
    """An empty tensor, as makers of such models of SDXL put it there."""
    path = tmp_path / "model.safetensors"
    save_file({**load_file(singles["sdxl"]), "v_pred": torch.zeros(0)}, path)
    marked = await picture(model=str(path), base=str(folders["sdxl"]))
    told = await picture(
        model=str(singles["sdxl"]), base=str(folders["sdxl"]), prediction_type="v_prediction"
    )
    assert np.array_equal(marked, told)


@pytest.mark.parametrize(
    ("kind", "millions"),
    [
        ("sd15", (859.5, 83.7, 123.1)),
        ("sd21", (865.9, 83.7, 340.4)),
        ("sdxl", (2567.5, 83.7, 123.1)),
    ],
)
def test_the_configurations_that_are_shipped_are_those_of_the_originals(
    kind: str, millions: tuple[float, float, float]
) -> None:
    """Known numbers of parameters: denoiser, autoencoder, first text encoder."""
    folder = CONFIGURATIONS / kind
    with torch.device("meta"):
        networks = (
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            CLIPTextModel(CLIPTextConfig.from_json_file(folder / "text_encoder/config.json")),
        )
        if kind == "sdxl":
            config = CLIPTextConfig.from_json_file(folder / "text_encoder_2/config.json")
            second = CLIPTextModelWithProjection(config)
            assert round(count(second) / 1e6, 1) == 694.7
    assert tuple(round(count(network) / 1e6, 1) for network in networks) == millions


def count(network: torch.nn.Module) -> int:
    """Its parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
