"""Components that ONNX Runtime runs compute what torch computes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from atelier_engines.capabilities import Reproducibility
from atelier_engines.conformance import EngineConformance
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.memory.estimator import ImageWork
from atelier_engines.diffusion.runtimes.base import Conditioning, Residuals, Runtime
from atelier_engines.task import Control, ControlType, ImageTask, Lora
from atelier_tiny import WEIGHTS
from tests.engines.diffusion import write_adapters
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.test_parity_init_images import mask, photo

SIZES = ((1, 8, 8, 77), (5, 13, 10, 77), (2, 16, 32, 231))
"""Rows, height and width in latent pixels, and tokens; none of them is exported at."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The small model, whose graphs are known, with its ControlNet and LoRAs."""
    folder = tmp_path_factory.mktemp("onnx")
    write_adapters.write_lora(folder / "loras" / "style", WEIGHTS, seed=1)
    write_adapters.write_kohya_lora(folder / "loras" / "figure.safetensors", WEIGHTS, seed=2)
    return {
        "device": "cpu",
        "lora_directory": str(folder / "loras"),
        "max_batch": 8,
        "builds_directory": str(folder / "builds"),
    }


@pytest.fixture(scope="module")
def torch_engine(settings: dict[str, object]) -> Iterator[DiffusionEngine]:
    """All components run by torch."""
    yield from started(DiffusionConfig.model_validate({**settings, "runtime": "torch"}))


@pytest.fixture(scope="module")
def onnx_engine(settings: dict[str, object]) -> Iterator[DiffusionEngine]:
    """All components run by ONNX Runtime."""
    yield from started(DiffusionConfig.model_validate({**settings, "runtime": "onnx"}))


@pytest.fixture(scope="module")
def runtimes(
    torch_engine: DiffusionEngine, onnx_engine: DiffusionEngine
) -> tuple[Runtime, Runtime]:
    """The components of torch, and those of ONNX Runtime."""
    return torch_engine.inspect().family.runtime, onnx_engine.inspect().family.runtime


def started(config: DiffusionConfig) -> Iterator[DiffusionEngine]:
    """An engine, to its end."""
    made = DiffusionEngine(config)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Both are the same to 1e-5 of the largest number."""
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def inputs_of(
    rows: int, height: int, width: int, tokens: int
) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    """Random latents, time steps and conditioning."""
    draw = torch.Generator().manual_seed(rows)
    conditioning = Conditioning(
        prompt_embeds=torch.randn(rows, tokens, 192, generator=draw),
        pooled_prompt_embeds=torch.randn(rows, 128, generator=draw),
        time_ids=torch.tensor([[512.0, 512, 0, 0, 512, 512]]).repeat(rows, 1),
    )
    latents = torch.randn(rows, 4, height, width, generator=draw)
    return latents, torch.arange(rows) * 150 + 7, conditioning


@pytest.mark.parametrize("size", SIZES)
def test_denoiser_and_controlnet_compute_the_same_at_every_size(
    runtimes: tuple[Runtime, Runtime], size: tuple[int, int, int, int]
) -> None:
    """Plain and controlled, with a scale for each row, at odd sizes too."""
    latents, timesteps, conditioning = inputs_of(*size)
    maps = torch.rand(
        size[0], 3, size[1] * 8, size[2] * 8, generator=torch.Generator().manual_seed(3)
    )
    scales = [0.5 + row / 4 for row in range(size[0])]
    made: list[tuple[Residuals, torch.Tensor, torch.Tensor]] = []
    for runtime in runtimes:
        with torch.inference_mode():
            residuals = runtime.controlnets["canny"].compute_residuals(
                latents, timesteps, conditioning, maps=maps, scales=scales
            )
            controlled = runtime.denoiser.predict(
                latents, timesteps.float(), conditioning, residuals
            )
            plain = runtime.denoiser.predict(latents, timesteps, conditioning)
        made.append((residuals, controlled, plain))
    (wanted, *predicted), (got, *also) = made
    for ours, theirs in zip((*got.down, got.mid), (*wanted.down, wanted.mid), strict=True):
        assert_same(ours, theirs)
    for ours, theirs in zip(also, predicted, strict=True):
        assert_same(ours, theirs)
    assert (also[0] - also[1]).abs().max() > 1e-3


@pytest.mark.parametrize("tiled", [False, True])
def test_autoencoder_computes_the_same_at_every_size(
    runtimes: tuple[Runtime, Runtime], *, tiled: bool
) -> None:
    """Whole and in tiles."""
    image = torch.rand(1, 3, 104, 136, generator=torch.Generator().manual_seed(4)) * 2 - 1
    latents = torch.randn(2, 4, 13, 17, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        wanted, got = (
            (
                one.autoencoder.encode(image, torch.Generator().manual_seed(6), tiled=tiled),
                one.autoencoder.decode(latents, tiled=tiled),
            )
            for one in runtimes
        )
    for ours, theirs in zip(got, wanted, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize(("layer", "normed"), [(-2, False), (None, False), (-2, True)])
@pytest.mark.parametrize("encoder", [0, 1])
def test_text_encoders_compute_the_same(
    runtimes: tuple[Runtime, Runtime], encoder: int, layer: int | None, *, normed: bool
) -> None:
    """For every layer that is asked for, and with vectors in the place of tokens."""
    ids = torch.randint(0, 500, (2, 77), generator=torch.Generator().manual_seed(7))
    theirs, ours = (one.text_encoders[encoder] for one in runtimes)
    assert ours.width == theirs.width
    vectors = {3: torch.full((ours.width,), 0.5), 4: torch.full((ours.width,), -0.5)}
    with torch.inference_mode():
        plain = ours.encode(ids, layer=layer, normed=normed)
        wanted, got = (
            one.encode(ids, layer=layer, normed=normed, vectors=vectors) for one in (theirs, ours)
        )
    assert_same(got.prompt_embeds, wanted.prompt_embeds)
    assert not torch.equal(plain.prompt_embeds, got.prompt_embeds)
    assert (
        (got.pooled_prompt_embeds is None)
        == (wanted.pooled_prompt_embeds is None)
        == (encoder == 0)
    )
    if got.pooled_prompt_embeds is not None and wanted.pooled_prompt_embeds is not None:
        assert_same(got.pooled_prompt_embeds, wanted.pooled_prompt_embeds)


CONTROL = Control(type=ControlType.CANNY, image=photo())
TASKS = {
    "text-to-image": image_task(),
    "image-to-image": image_task(init_image=photo(), strength=0.6, steps=6),
    "inpainting": image_task(init_image=photo(), mask=mask(), strength=1.0),
    "ControlNet": image_task(controls=(CONTROL,), width=72, height=104),
    "LoRA": image_task(loras=(Lora(name="style", weight=0.8),)),
    "two LoRAs": image_task(loras=(Lora(name="style"), Lora(name="figure", weight=-0.5))),
    "batch": image_task(seeds=(1, 2, 3), negative_prompt="a blue house"),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
async def test_pictures_are_the_same(
    torch_engine: DiffusionEngine, onnx_engine: DiffusionEngine, task: ImageTask
) -> None:
    """To at least 40 dB, which no eye can tell apart."""
    wanted = await generate_images(torch_engine, task)
    got = await generate_images(onnx_engine, task)
    assert len(got) == len(task.seeds)
    for ours, theirs in zip(got, wanted, strict=True):
        assert psnr(ours, theirs) >= 40


async def test_loras_leave_no_trace(onnx_engine: DiffusionEngine) -> None:
    """From one to another and back the bytes are the same, and so are those without any."""
    style, figure = (image_task(loras=(Lora(name=name),)) for name in ("style", "figure"))
    tasks = {"plain": image_task(), "style": style, "figure": figure}
    first = {name: await generate_images(onnx_engine, task) for name, task in tasks.items()}
    for name in ("plain", "figure", "style", "plain", "style"):
        (again,) = await generate_images(onnx_engine, tasks[name])
        assert np.array_equal(again, first[name][0])
    assert psnr(first["style"][0], first["plain"][0]) < 40
    assert psnr(first["style"][0], first["figure"][0]) < 40


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two images, in dB."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.mark.parametrize("work", [(512, 384, 1), (1024, 1024, 2), (2048, 2048, 1)])
def test_images_are_estimated_to_take_what_they_take_with_torch(
    torch_engine: DiffusionEngine, onnx_engine: DiffusionEngine, work: tuple[int, int, int]
) -> None:
    """Within a tenth, so that what does not fit is refused before any work."""
    wanted, found = (
        one.inspect().memory.estimate_bytes(ImageWork(width=work[0], height=work[1], rows=work[2]))
        for one in (torch_engine, onnx_engine)
    )
    assert wanted > 0
    assert 0.9 <= found / wanted <= 1.1


def test_engine_says_what_runs_it(onnx_engine: DiffusionEngine) -> None:
    """Receipts name ONNX Runtime; LoRAs are among the features."""
    found = onnx_engine.capabilities
    assert found.reproducibility is Reproducibility.SAME_ENGINE
    assert "onnxruntime" in found.versions
    assert found.image is not None
    assert found.image.loras == ("figure", "sketch", "style")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:0"}, "set device to cpu"),
        ({"devices": ["cpu", "cuda"]}, "set device to cpu"),
        ({"precision": "float16"}, "precision must be float32 or auto"),
        ({"vae_precision": "bfloat16"}, "vae_precision must be float32 or auto"),
    ],
)
def test_what_onnx_cannot_do_is_refused(changes: dict[str, object], message: str) -> None:
    """By the name of the setting, before anything is loaded."""
    with pytest.raises(ValidationError, match=message):
        DiffusionConfig.model_validate({"runtime": "onnx", **changes})


def test_components_have_runtimes_of_their_own() -> None:
    """What is left out is run by torch."""
    config = DiffusionConfig.model_validate(
        {"runtime": {"controlnets": "onnx", "autoencoder": "onnx"}}
    )
    assert (config.runtimes.denoiser, config.runtimes.text_encoders) == ("torch", "torch")


class TestOnnx(EngineConformance):
    """All components run by ONNX Runtime, with a ControlNet and LoRAs."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, settings: dict[str, object]) -> DiffusionEngine:
        """Not started."""
        return DiffusionEngine(DiffusionConfig.model_validate({**settings, "runtime": "onnx"}))
