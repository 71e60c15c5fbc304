"""An autoencoder that overflows in its number format computes that image in float32, and the task says so."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import ModelMissingError
from atelier_engines.event import Output, Stage
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask, ResourceProfile
from tests.engines.diffusion.calls import collect_events, image_task

_FILE = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The model with weights that float16 holds, and activations beyond its 65504; their norms are the same."""
    folder = tmp_path_factory.mktemp("loud") / "model"
    shutil.copytree(model, folder)
    tensors = {name: tensor.half().float() for name, tensor in load_file(folder / _FILE).items()}
    for name in ("decoder.conv_in.weight", "encoder.conv_in.weight"):
        tensors[name] = (tensors[name] * 2.0**18 / tensors[name].abs().max()).clamp(-65000, 65000)
        tensors[name] = tensors[name].half().float()
    save_file(tensors, folder / _FILE)
    return folder


async def run(
    model: Path, tasks: Mapping[str, ImageTask], **config: object
) -> dict[str, tuple[np.ndarray, list[str]]]:
    """The image of each task, and its stages; the autoencoder's weights stay what they were."""
    engine = DiffusionEngine(
        DiffusionConfig.model_validate({"model": str(model), "device": "cpu", **config})
    )
    await engine.start()
    module = engine.inspect().family.runtime.autoencoder.module  # type: ignore[attr-defined]  # torch's
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    made = {}
    for name, task in tasks.items():
        events = await collect_events(engine, task)
        (output,) = (event for event in events if isinstance(event, Output))
        assert isinstance(output.media, Pixels)
        stages = [event.name for event in events if isinstance(event, Stage)]
        made[name] = output.media.array, stages
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    await engine.stop()
    return made


INIT = Pixels(array=np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
TASKS = {
    "text": image_task(steps=2),
    "image": image_task(steps=2, init_image=INIT, strength=0.5),
    "tiles": image_task(steps=1, resource_profile=ResourceProfile.MEMORY, width=128),
    "again": image_task(steps=2),
}


async def test_what_overflows_is_what_float32_makes_of_it(
    loud: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """To the bit, whole and in tiles; the progress and the log say it, and the weights go back."""
    half = {"precision": "float16", "vae_precision": "float16"}
    found = await run(loud, TASKS, **half)
    records = [one for one in caplog.records if one.message == "autoencoder_overflowed"]
    assert {record.__dict__["stage"] for record in records} == {"decode", "encode_image"}
    assert records[0].levelno == logging.WARNING
    wanted = await run(loud, TASKS, **{**half, "vae_precision": "float32"})
    for name in ("text", "tiles", "again"):
        assert np.array_equal(found[name][0], wanted[name][0])
        assert found[name][1] == ["encode_text", "denoise", "decode", "decode_float32"]
        assert wanted[name][1] == ["encode_text", "denoise", "decode"]
    assert "encode_image_float32" in found["image"][1]
    assert np.abs(found["image"][0].astype(int) - wanted["image"][0]).mean() < 40


async def test_what_does_not_overflow_is_computed_once(model: Path) -> None:
    """As ever."""
    half = {"precision": "float16", "vae_precision": "float16"}
    found = await run(model, {"text": TASKS["text"]}, **half)
    assert found["text"][1] == ["encode_text", "denoise", "decode"]


async def test_what_no_format_can_hold_is_an_error_still(loud: Path, tmp_path: Path) -> None:
    """A weight that is NaN is none of the format's."""
    folder = tmp_path / "model"
    shutil.copytree(loud, folder)
    tensors = load_file(folder / _FILE)
    tensors["decoder.conv_out.bias"][0] = torch.nan
    save_file(tensors, folder / _FILE)
    config = DiffusionConfig(model=str(folder), device="cpu", precision="float16")
    with pytest.raises(ModelMissingError, match="NaN or infinity"):
        await DiffusionEngine(config).start()
