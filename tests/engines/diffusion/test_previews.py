"""Previews show what the finished image will look like."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine, previews, schedulers
from atelier_engines.diffusion.config import SchedulerName
from atelier_engines.diffusion.previews import LinearPreviewer, TinyVaePreviewer
from atelier_engines.diffusion.sampler import InitialLatents, Sampler
from atelier_engines.errors import ModelMissingError
from atelier_engines.event import Event, Output, Step
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.media import Encoded
from tests.engines.diffusion.calls import collect_events, image_task

CPU = torch.device("cpu")


async def previewed(engine: DiffusionEngine, interval: int) -> list[int]:
    """The steps that had a preview."""
    events = await collect_events(
        engine, image_task(steps=5, width=96, height=64, preview_interval=interval)
    )
    steps = [event for event in events if isinstance(event, Step)]
    for step in steps:
        if step.preview is not None:
            picture = Image.open(io.BytesIO(step.preview.data))
            assert (picture.width, picture.height) == (12, 8)
            assert (step.preview.width, step.preview.height) == (12, 8)
            assert picture.get_format_mimetype() == step.preview.media_type
    return [step.index for step in steps if step.preview is not None]


async def test_previews_come_at_the_interval_that_was_asked_for(engine: DiffusionEngine) -> None:
    """None by default."""
    assert await previewed(engine, 0) == []
    assert await previewed(engine, 1) == [1, 2, 3, 4, 5]
    assert await previewed(engine, 2) == [2, 4]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", schedulers.NAMES)
def test_the_clean_latents_are_known_before_the_end(name: SchedulerName, prediction: str) -> None:
    """Of a denoiser that is always right, the first preview already shows the end."""
    if name in schedulers.EPSILON_ONLY and prediction == "sample":
        pytest.skip("diffusers' cannot")
    model = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing="trailing",
    )
    scheduler = schedulers.build(name, model, steps=6, device=CPU)
    generator = torch.Generator("cpu").manual_seed(1)
    noise = torch.randn((1, 4, 8, 8), generator=generator) * scheduler.init_noise_sigma
    denoising = Sampler(
        scheduler=scheduler,
        initial=InitialLatents(latents=noise),
        guidance=1.0,
        generator=generator,
    )
    wanted = torch.linspace(-1, 1, 256).view(1, 4, 8, 8)
    while not denoising.is_finished:
        rows = denoising.model_input()
        signal = float(scheduler.alphas_cumprod[round(float(rows.timesteps[0]))])
        noise = (rows.latents - math.sqrt(signal) * wanted) / math.sqrt(max(1 - signal, 1e-6))
        right = {
            "epsilon": noise,
            "sample": wanted,
            "v_prediction": math.sqrt(signal) * noise - math.sqrt(1 - signal) * wanted,
        }[prediction]
        denoising.step(right)
        assert torch.allclose(denoising.predict_x0(rows, right), wanted, atol=1e-3)
    assert torch.allclose(denoising.latents, wanted, atol=0.2)


def test_a_preview_is_a_linear_map_of_the_latents() -> None:
    """Zero latents have the colour of the bias, and the first channel adds its own."""
    previewer = LinearPreviewer(
        factors=((0.5, 0.0, 0.0), (0.0,) * 3, (0.0,) * 3, (0.0,) * 3),
        bias=(0.0, 0.5, 1.0),
        max_side=64,
    )
    latents = torch.zeros(1, 4, 16, 32)
    latents[:, 0, :, 16:] = 2.0
    picture = np.asarray(Image.open(io.BytesIO(previewer.preview(latents).data)), int)
    assert picture.shape == (16, 32, 3)
    assert np.abs(picture[4, 4] - (0, 128, 255)).max() < 8
    assert np.abs(picture[4, 28] - (255, 128, 255)).max() < 8


def test_a_preview_is_never_larger_than_configured_and_keeps_its_proportions() -> None:
    """Large images have small previews too."""
    previewer = LinearPreviewer(factors=((0.1,) * 3,) * 4, bias=(0.5,) * 3, max_side=32)
    made = previewer.preview(torch.zeros(1, 4, 128, 64))
    assert (made.width, made.height) == (16, 32)


def test_numbers_that_are_none_make_a_preview_all_the_same() -> None:
    """The image fails, the preview need not."""
    previewer = LinearPreviewer(factors=((0.1,) * 3,) * 4, bias=(0.5,) * 3, max_side=32)
    assert previewer.preview(torch.full((1, 4, 8, 8), float("nan"))).data


async def test_the_models_own_colours_are_used(model: Path, tmp_path: Path) -> None:
    """atelier.json knows its latents best."""
    folder = shutil.copytree(model, tmp_path / "model")
    card = {"preview_factors": [[0, 0, 0]] * 4, "preview_bias": [1.0, 0.0, 0.0]}
    (folder / "atelier.json").write_text(json.dumps(card), "utf-8")
    engine = DiffusionEngine(DiffusionConfig(model=str(folder), device="cpu"))
    await engine.start()
    events = await collect_events(engine, image_task(preview_interval=1))
    await engine.stop()
    (first, *_) = (event.preview for event in events if isinstance(event, Step))
    assert first is not None
    red = np.asarray(Image.open(io.BytesIO(first.data)), int)[0, 0]
    assert np.abs(red - (255, 0, 0)).max() < 8


@pytest.fixture(scope="module")
def taesd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with TAESD's architecture and random weights."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("taesd")
    AutoencoderTiny().save_pretrained(folder)
    return folder


def as_original(folder: Path) -> dict[str, torch.Tensor]:
    """The decoder under the names that its author gave it: layer 0 is a clamp without weights."""
    found = load_file(folder / "diffusion_pytorch_model.safetensors")
    named = {name.split(".", 2)[2]: found[name] for name in found if name.startswith("decoder.")}
    return {
        f"{int(name.split('.')[0]) + 1}.{name.split('.', 1)[1]}": tensor.contiguous()
        for name, tensor in named.items()
    }


def decoded(source: Path) -> NDArray[np.uint8]:
    """What a tiny autoencoder shows of certain latents."""
    latents = torch.linspace(-2, 2, 4 * 8 * 12).view(1, 4, 8, 12)
    network = previews.load_tiny_vae(source, device=CPU, dtype=torch.float32)
    previewer = TinyVaePreviewer(network=network, max_side=512, encoding="webp")
    made = previewer.preview(latents)
    assert made.media_type == "image/webp"
    assert (made.width, made.height) == (96, 64)
    return np.asarray(Image.open(io.BytesIO(made.data)))


def test_a_tiny_autoencoder_shows_what_diffusers_decodes_with_it(taesd: Path) -> None:
    """Eight pixels a cell; WebP loses a little."""
    network = AutoencoderTiny.from_pretrained(taesd)
    latents = torch.linspace(-2, 2, 4 * 8 * 12).view(1, 4, 8, 12)
    with torch.inference_mode():
        wanted = (network.decode(latents).sample[0] / 2 + 0.5).clamp(0, 1) * 255
    difference = decoded(taesd) - wanted.permute(1, 2, 0).numpy()
    assert np.abs(difference).mean() < 8


def test_a_tiny_autoencoder_may_be_one_file_under_either_names(taesd: Path, tmp_path: Path) -> None:
    """Diffusers' names, or those of the original decoder."""
    original = tmp_path / "taesd_decoder.safetensors"
    save_file(as_original(taesd), original)
    wanted = decoded(taesd)
    assert np.array_equal(decoded(taesd / "diffusion_pytorch_model.safetensors"), wanted)
    assert np.array_equal(decoded(original), wanted)


@pytest.mark.parametrize("damage", ["absent", "other", "torn"])
def test_what_is_no_tiny_autoencoder_is_refused(damage: str, tmp_path: Path) -> None:
    """By its name."""
    path = tmp_path / "broken.safetensors"
    if damage == "other":
        save_file({"layer.weight": torch.zeros(2)}, path)
    if damage == "torn":
        path.write_bytes(b"12")
    with pytest.raises(ModelMissingError, match=r"broken\.safetensors"):
        previews.load_tiny_vae(path, device=CPU, dtype=torch.float32)


async def test_an_engine_previews_with_the_configured_autoencoder(model: Path, taesd: Path) -> None:
    """And shrinks what it shows."""
    config = DiffusionConfig(
        model=str(model),
        device="cpu",
        preview_model=str(taesd),
        preview_pixels=48,
        preview_format="webp",
    )
    engine = DiffusionEngine(config)
    await engine.start()
    events = await collect_events(
        engine, image_task(width=96, height=64, steps=2, preview_interval=1)
    )
    await engine.stop()
    made = [event.preview for event in events if isinstance(event, Step)]
    assert [(one.media_type, one.width, one.height) for one in made if one is not None] == [
        ("image/webp", 48, 32),
        ("image/webp", 48, 32),
    ]


class Counting:
    """Counts what it is asked for, and fails at it."""

    def __init__(self) -> None:
        self.asked = 0

    def preview(self, latents: torch.Tensor) -> Encoded:
        """See Previewer."""
        self.asked += 1
        raise RuntimeError(f"no preview of {tuple(latents.shape)}")


@pytest.mark.parametrize(("interval", "asked"), [(0, 0), (1, 4), (2, 2), (5, 0)])
def test_a_preview_is_made_only_when_it_is_due(
    engine: DiffusionEngine, interval: int, asked: int
) -> None:
    """Off costs nothing; and an image whose previews fail comes all the same."""
    counting, events = Counting(), list[Event]()
    loaded = dataclasses.replace(engine.inspect(), previewer=counting)
    run_alone(loaded, image_task(steps=4, preview_interval=interval), events.append)
    assert counting.asked == asked
    assert isinstance(events[-1], Output)
