"""Quantized weights are used as what they stand for, and formats that are not known are rejected by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine, component_loading
from atelier_engines.diffusion.weights.model_files import (
    ComponentSource,
    ModelFiles,
    find_model_files,
)
from atelier_engines.errors import ModelMissingError
from tests.engines.diffusion import original_layout, quantized_files, tiny_sd, tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.quantized_files import FP8, SPELLINGS, mark

UNET = "unet/diffusion_pytorch_model.safetensors"
LAYER = "model.diffusion_model.time_embed.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in diffusers' layout; not to be changed."""
    return tiny_sd.write(tmp_path_factory.mktemp("folder"), "sd15")


@pytest.fixture(scope="module")
def single(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as one file; not to be changed."""
    return original_layout.write(folder, tmp_path_factory.mktemp("file") / "sd15.safetensors")


KINDS = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


def files(**config: object) -> ModelFiles:
    """The files of the model in a configuration."""
    return find_model_files(
        DiffusionConfig.model_validate({"device": "cpu", "download": False, **config})
    )


def weights(part: ComponentSource, name: str) -> dict[str, torch.Tensor]:
    """The weights of a component as it is loaded."""
    module = component_loading.load(KINDS[name], part, torch.float32, torch.device("cpu"))
    found: dict[str, torch.Tensor] = module.state_dict()
    return found


def same(one: ModelFiles, other: ModelFiles, *names: str) -> bool:
    """Whether these components of two models are loaded with equal weights."""
    for name in names:
        first, second = weights(one.components[name], name), weights(other.components[name], name)
        if not all(torch.equal(first[key], second[key]) for key in first.keys() | second.keys()):
            return False
    return True


def rejection(**config: object) -> str:
    """Why the model of that configuration is not used."""
    with pytest.raises(ModelMissingError) as error:
        files(**config)
    return str(error.value)


@pytest.mark.parametrize("name", SPELLINGS)
def test_scales_are_applied(folder: Path, single: Path, tmp_path: Path, name: str) -> None:
    """Convolutions and linear layers have the numbers that are meant."""
    quantized, plain = quantized_files.write(single, tmp_path, SPELLINGS[name])
    found, wanted = [files(model=str(path), base=str(folder)) for path in (quantized, plain)]
    assert same(found, wanted, "unet")


@pytest.mark.parametrize(
    ("prefix", "part"),
    [("first_stage_model.", "vae"), ("cond_stage_model.transformer.", "text_encoder")],
)
def test_scales_are_applied_in_every_component(
    folder: Path, single: Path, tmp_path: Path, prefix: str, part: str
) -> None:
    """Not only in the denoiser."""
    paths = quantized_files.write(single, tmp_path, SPELLINGS["comfy_quant"], prefix=prefix)
    found, wanted = [files(model=str(path), base=str(folder)) for path in paths]
    assert same(found, wanted, part)


def test_scales_are_applied_in_the_second_text_encoder(tmp_path: Path) -> None:
    """Whose tensors have the names of OpenCLIP."""
    own = tiny_sdxl.write(tmp_path / "xl")
    single = original_layout.write(own, tmp_path / "xl.safetensors")
    paths = quantized_files.write(
        single, tmp_path, SPELLINGS["scaled_fp8"], prefix="conditioner.embedders.1.model."
    )
    found, wanted = [files(model=str(path), base=str(own)) for path in paths]
    assert same(found, wanted, "text_encoder_2")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_scales_are_applied_in_a_directory(folder: Path, tmp_path: Path, part: str) -> None:
    """Diffusers and transformers would leave them out without a word."""
    copies = [shutil.copytree(folder, tmp_path / name) for name in ("quantized", "plain")]
    own = next((folder / part).glob("*.safetensors"))
    made = quantized_files.write(own, tmp_path / "made", SPELLINGS["scaled_fp8"], prefix="")
    for copy, file in zip(copies, made, strict=True):
        shutil.copy(file, copy / part / own.name)
    quantized, plain = [files(model=str(copy)) for copy in copies]
    assert same(quantized, plain, part)


def test_scales_are_applied_in_a_file_of_one_component(folder: Path, tmp_path: Path) -> None:
    """A denoiser among `variants`, and `vae`."""
    unets = quantized_files.write(folder / UNET, tmp_path / "u", SPELLINGS["metadata"], prefix="")
    own = next((folder / "vae").glob("*.safetensors"))
    vaes = quantized_files.write(own, tmp_path / "v", SPELLINGS["by row"], prefix="")
    quantized, plain = [
        files(model=str(folder), variants={2: str(unet)}, vae=str(vae))
        for unet, vae in zip(unets, vaes, strict=True)
    ]
    assert same(quantized, plain, "vae")
    found, wanted = weights(quantized.variants[2], "unet"), weights(plain.variants[2], "unet")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_fp8_without_scales_is_what_it_is(folder: Path, single: Path, tmp_path: Path) -> None:
    """Numbers that were only rounded; in a directory too."""
    rounded = {
        name: tensor.to(torch.float8_e4m3fn) if name.startswith("model.") else tensor
        for name, tensor in load_file(single).items()
    }
    save_file(rounded, tmp_path / "8.safetensors")
    save_file(
        {name: tensor.float() for name, tensor in rounded.items()}, tmp_path / "f.safetensors"
    )
    found, wanted = [
        files(model=str(tmp_path / f"{name}.safetensors"), base=str(folder)) for name in "8f"
    ]
    assert same(found, wanted, "unet")
    copy = shutil.copytree(folder, tmp_path / "copy")
    unet = {name: one.to(torch.float8_e4m3fn) for name, one in load_file(folder / UNET).items()}
    save_file(unet, copy / UNET, {"format": "pt"})
    assert same(files(model=str(copy)), wanted, "unet")


def test_numbers_of_the_whole_model_are_no_scales(folder: Path, tmp_path: Path) -> None:
    """As trainers of Stable Diffusion leave them at the top of a file."""
    own = next((folder / "vae").glob("*.safetensors"))
    path = tmp_path / "vae.safetensors"
    save_file({**load_file(own), "scale_factor": torch.tensor(0.18215)}, path)
    found = files(model=str(folder), vae=str(path))
    assert same(found, files(model=str(folder)), "vae")


async def test_an_engine_generates_with_quantized_weights(
    folder: Path, single: Path, tmp_path: Path
) -> None:
    """But for the last bit of a level, the image of the numbers that are meant."""
    images = []
    for path in quantized_files.write(single, tmp_path, SPELLINGS["scaled_fp8"]):
        engine = DiffusionEngine(DiffusionConfig(model=str(path), base=str(folder), device="cpu"))
        await engine.start()
        images += await generate_images(engine, image_task(steps=2))
        await engine.stop()
    quantized, plain = images
    assert np.abs(quantized.astype(int) - plain).max() <= 1


INT8 = torch.ones((16, 16), dtype=torch.int8)
FOREIGN: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "nvfp4": (
        {"weight_scale": torch.ones(1), "comfy_quant": mark({"format": "nvfp4"})},
        "as nvfp4",
    ),
    "mxfp8": (
        {"weight_scale": torch.ones(1), "comfy_quant": mark({"format": "mxfp8"})},
        "as mxfp8",
    ),
    "rotated": (
        {
            "weight_scale": torch.ones(1),
            "comfy_quant": mark({"format": "int8_tensorwise", "params": {"convrot": True}}),
        },
        "int8_tensorwise with rotated weights",
    ),
    "no format": ({"weight_scale": torch.ones(1), "comfy_quant": mark({})}, "as unnamed"),
    "broken mark": ({"comfy_quant": torch.ones(3, dtype=torch.uint8)}, "broken"),
    "no scale": ({"comfy_quant": mark(FP8)}, "has no weight_scale"),
    "scale of no weight": ({"more.scale_weight": torch.ones(1)}, "scale of no weight"),
    "blocks": ({"weight_scale": torch.ones((2, 3))}, "by blocks"),
    "double scales": ({"weight_scale": torch.ones(1), "weight_scale_2": torch.ones(1)}, "_scale_2"),
    "smoothed": ({"pre_quant_scale": torch.ones(16)}, "pre_quant_scale"),
    "inverse scales": ({"weight_scale_inv": torch.ones(1)}, "weight_scale_inv"),
    "bitsandbytes": ({"weight.absmax": torch.ones(4)}, "weight.absmax"),
    "bitsandbytes int8": ({"weight": INT8, "SCB": torch.ones(16)}, "SCB"),
    "quanto": ({"weight._data": INT8, "weight._scale": torch.ones(16)}, "weight._"),
    "gptq": ({"qweight": INT8.to(torch.int32)}, "qweight"),
    "integers": ({"weight": INT8}, "as I8 without a format"),
    "packed": ({"weight": INT8.to(torch.uint8)}, "as U8 without a format"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_known_is_rejected_by_name(
    folder: Path, single: Path, tmp_path: Path, name: str
) -> None:
    """With the tensor that marks it and what works instead."""
    added, reason = FOREIGN[name]
    path = tmp_path / "model.safetensors"
    save_file(
        {**load_file(single), **{f"{LAYER}.{end}": tensor for end, tensor in added.items()}}, path
    )
    message = rejection(model=str(path), base=str(folder))
    assert reason in message
    assert LAYER in message or name == "broken mark"


def test_a_directory_that_a_package_has_quantized_is_rejected_by_name(
    folder: Path, tmp_path: Path
) -> None:
    """By its configuration."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "unet" / "config.json"
    path.write_text(
        json.dumps(
            {
                **json.loads(path.read_text("utf-8")),
                "quantization_config": {"quant_method": "bitsandbytes"},
            }
        ),
        "utf-8",
    )
    message = rejection(model=str(copy))
    assert "is quantized by bitsandbytes (quantization_config" in message


def test_an_unknown_format_in_the_metadata_is_rejected(
    folder: Path, single: Path, tmp_path: Path
) -> None:
    """As one beside the weight."""
    path = tmp_path / "model.safetensors"
    layers = {"layers": {LAYER: {"format": "asym_w4a8_int8"}}}
    save_file(load_file(single), path, {"_quantization_metadata": json.dumps(layers)})
    assert f"as asym_w4a8_int8 ({LAYER})" in rejection(model=str(path), base=str(folder))
