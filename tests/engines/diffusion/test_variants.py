"""Distilled models: denoisers by their number of steps, presets, another autoencoder, pins."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from numpy.typing import NDArray
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from pydantic import ValidationError
from safetensors.torch import save_file

from atelier_engines import validation
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.consistency import contradictions
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.component_loading import load
from atelier_engines.diffusion.presets import PRESETS
from atelier_engines.diffusion.weights.diffusers_layout import ComponentFiles
from atelier_engines.diffusion.weights.model_files import MergedComponent
from atelier_engines.errors import InvalidTaskError, ModelMissingError
from atelier_engines.task import ImageTask
from tests.engines.diffusion import original_layout
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.lora_formats import Written, write_resized


@pytest.fixture(scope="module")
def variants(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
    """Denoisers for 2 steps (diffusers' names), 4 (original names) and 8 (a LoRA)."""
    folder = tmp_path_factory.mktemp("variants")
    paths = {steps: folder / f"{steps}step.safetensors" for steps in (2, 4, 8)}
    save_file(changed_denoiser(model, 2).state_dict(), paths[2])
    original = original_layout.denoiser(changed_denoiser(model, 4).state_dict())
    save_file({name: tensor.contiguous() for name, tensor in original.items()}, paths[4])
    denoiser = UNet2DConditionModel.from_pretrained(model / "unet")
    save_file(lora(denoiser), paths[8])
    return paths


def changed_denoiser(model: Path, seed: int) -> UNet2DConditionModel:
    """The model's denoiser, with a little noise over its weights."""
    network: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(model / "unet")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.05)
    return network


def lora(network: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """A random LoRA for its attention, as diffusers writes them."""
    torch.manual_seed(8)
    network.add_adapter(
        LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    return {f"unet.{name}": tensor for name, tensor in get_peft_model_state_dict(network).items()}


@pytest.fixture(scope="module")
def config(model: Path, variants: Mapping[int, Path]) -> DiffusionConfig:
    """A distilled model in three variants."""
    return DiffusionConfig(
        model=str(model),
        device="cpu",
        preset="lightning",
        variants={steps: str(path) for steps, path in variants.items()},
    )


@pytest.fixture(scope="module")
def distilled(config: DiffusionConfig) -> Iterator[DiffusionEngine]:
    """A started engine."""
    made = DiffusionEngine(config)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


class TestDistilled(EngineConformance):
    """It keeps what every engine promises."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, config: DiffusionConfig) -> DiffusionEngine:
        """Not started."""
        return DiffusionEngine(config)


def wanted(model: Path, steps: int, variants: Mapping[int, Path]) -> NDArray[np.uint8]:
    """What diffusers' pipeline makes, as the maker of SDXL-Lightning says to use it."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    if steps == 8:
        pipeline.load_lora_weights(variants[8])
        pipeline.fuse_lora()
    else:
        pipeline.unet = changed_denoiser(model, steps)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing"
    )
    made = pipeline(
        "a red apple",
        width=64,
        height=64,
        num_inference_steps=steps,
        guidance_scale=0.0,
        generator=torch.Generator("cpu").manual_seed(7),
    )
    return np.asarray(made.images[0])


def distilled_task(steps: int) -> ImageTask:
    """One that is asked for with nothing but steps."""
    return image_task(steps=steps, guidance=0.0)


@pytest.mark.parametrize("steps", [2, 4, 8])
async def test_the_number_of_steps_chooses_the_denoiser(
    distilled: DiffusionEngine, model: Path, variants: Mapping[int, Path], steps: int
) -> None:
    """Whether its file holds all weights, under whichever names, or a LoRA."""
    (made,) = await generate_images(distilled, distilled_task(steps))
    assert np.array_equal(made, wanted(model, steps, variants))


async def test_variants_at_once_do_not_mix(distilled: DiffusionEngine) -> None:
    """Rows of different networks never share a run."""
    tasks = [distilled_task(steps) for steps in (2, 4, 8, 4)]
    alone = [await generate_images(distilled, task) for task in tasks]
    together = await asyncio.gather(*(generate_images(distilled, task) for task in tasks))
    for (one,), (other,) in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


async def test_steps_that_no_variant_was_made_for_are_refused(distilled: DiffusionEngine) -> None:
    """Before any work, by the limits, and by the engine itself."""
    with pytest.raises(InvalidTaskError, match="steps must be one of 2, 4, 8, not 6"):
        validation.validate(distilled.capabilities, distilled_task(6))
    with pytest.raises(InvalidTaskError, match="steps must be one of 2, 4, 8, for which"):
        await generate_images(distilled, distilled_task(6))


def test_the_preset_shows_in_the_capabilities(distilled: DiffusionEngine) -> None:
    """Four steps, no guidance, Euler."""
    found = distilled.capabilities.image
    assert found is not None
    assert found.steps is not None
    assert found.guidance is not None
    assert (found.steps.default, found.steps.allowed_values) == (4, (2, 4, 8))
    assert (found.guidance.default, found.guidance.max) == (0.0, 0.0)
    assert found.schedulers[0] == "euler"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_agrees_with_itself(preset: str) -> None:
    """Before and after whatever the configuration adds."""
    for more in ({}, {"steps": 6}, {"guidance": 3.0}, {"max_guidance": 8.0}):
        config = DiffusionConfig.model_validate({"preset": preset, **more})
        assert not list(contradictions(DiffusionEngine(config).capabilities))


def test_the_configuration_wins_over_its_preset() -> None:
    """Each word by itself."""
    config = DiffusionConfig(
        preset="lightning", steps=6, guidance=1.5, max_guidance=3.0, scheduler="ddim"
    )
    found = DiffusionEngine(config).capabilities.image
    assert found is not None
    assert found.steps is not None
    assert found.guidance is not None
    assert (found.steps.default, found.steps.allowed_values) == (6, (1, 2, 4, 6, 8))
    assert (found.guidance.default, found.guidance.max) == (1.5, 3.0)
    assert found.schedulers[0] == "ddim"


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": {4: "a.safetensors"}, "steps": 8},
        {"variants": {0: "a.safetensors"}},
        {"guidance": 5.0, "max_guidance": 4.0},
        {"preset": "thunder"},
        {"digest": "abc"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValidationError):
        DiffusionConfig.model_validate(wrong)


async def test_one_step_predicts_the_image_itself(
    model: Path, variants: Mapping[int, Path]
) -> None:
    """The preset knows that the denoiser for one step was trained so."""
    made = []
    for more in (
        {"prediction_type": "sample", "timestep_spacing": "trailing"},
        {"preset": "lightning"},
    ):
        engine = DiffusionEngine(
            DiffusionConfig.model_validate(
                {
                    "model": str(model),
                    "device": "cpu",
                    "variants": {1: str(variants[2])},
                    **more,
                }
            )
        )
        await engine.start()
        made += await generate_images(engine, distilled_task(1))
        await engine.stop()
    assert np.array_equal(made[0], made[1])


@pytest.fixture(scope="module")
def other_vae(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another autoencoder, in a directory of its own."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("vae")
    network = AutoencoderKL.from_config(AutoencoderKL.load_config(model / "vae"))
    network.save_pretrained(folder)
    return folder


async def test_another_autoencoder_takes_the_place_of_the_models(
    model: Path, other_vae: Path
) -> None:
    """From a directory, or from a file under either names; the digest tells."""
    weights = other_vae / "diffusion_pytorch_model.safetensors"
    original = other_vae.parent / "original.safetensors"
    tensors = original_layout.autoencoder(AutoencoderKL.from_pretrained(other_vae).state_dict())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, original)
    pictures, digests = [], []
    for vae in (None, str(other_vae), str(weights), str(original)):
        engine = DiffusionEngine(DiffusionConfig(model=str(model), vae=vae, device="cpu"))
        await engine.start()
        pictures += await generate_images(engine, image_task())
        assert engine.capabilities.image is not None
        digests.append(engine.capabilities.image.models[0].digest)
        await engine.stop()
    own, *others = pictures
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        model, vae=AutoencoderKL.from_pretrained(other_vae), add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    (expected,) = pipeline(
        "a red apple",
        width=64,
        height=64,
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images
    assert not np.array_equal(own, np.asarray(expected))
    assert all(np.array_equal(other, np.asarray(expected)) for other in others)
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


async def test_a_pin_holds_the_weights_to_their_digest(
    model: Path, engine: DiffusionEngine
) -> None:
    """Other weights than those that were meant are not served."""
    assert engine.capabilities.image is not None
    own = engine.capabilities.image.models[0].digest
    pinned = DiffusionEngine(DiffusionConfig(model=str(model), device="cpu", digest=own))
    await pinned.start()
    await pinned.stop()
    other = hashlib.sha256(b"").hexdigest()
    wrong = DiffusionEngine(DiffusionConfig(model=str(model), device="cpu", digest=other))
    with pytest.raises(ModelMissingError, match=f"digest {own} and not the configured {other}"):
        await wrong.start()


async def test_a_lora_for_something_else_is_refused(model: Path, tmp_path: Path) -> None:
    """It would change nothing, or not what was meant."""
    path = tmp_path / "text.safetensors"
    save_file({"text_encoder.a.lora_A.weight": torch.zeros(4, 32)}, path)
    engine = DiffusionEngine(
        DiffusionConfig(model=str(model), device="cpu", variants={4: str(path)})
    )
    with pytest.raises(ModelMissingError, match=r"not a LoRA for a denoiser|cannot be loaded"):
        await engine.start()


def test_a_variant_is_merged_with_the_rank_and_alpha_of_each_layer(
    model: Path, tmp_path: Path
) -> None:
    """In kohya's format, where attention layers once got the commonest alpha."""
    path = tmp_path / "four.safetensors"
    network = UNet2DConditionModel.from_pretrained(model / "unet")
    torch.manual_seed(3)
    written = Written({"unet": network})
    write_resized(written)
    written.save(path)
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    base = ComponentFiles(folder=model / "unet", variant=None, weights=(weights,))
    merged = load(
        UNet2DConditionModel,
        MergedComponent(base=base, lora=path),
        torch.float32,
        torch.device("cpu"),
    )
    for (_, place, _), change in written.sums.items():
        made = merged.get_submodule(place).weight
        assert torch.allclose(made, network.get_submodule(place).weight + change, atol=1e-5)
