"""What a model in one file predicts: its marks and metadata decide, and contradictions are rejected."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.weights.model_files import ModelFiles, find_model_files
from atelier_engines.diffusion.weights.prediction import Sampling
from atelier_engines.errors import ModelMissingError
from tests.engines.diffusion import original_layout, tiny_sdxl
from tests.engines.diffusion.calls import generate_images, image_task

UNET = "model.diffusion_model"
NORM = f"{UNET}.output_blocks.11.1.transformer_blocks.0.norm1.bias"
TEXTS = {
    "sd15": ("cond_stage_model.transformer.a",),
    "sd21": ("cond_stage_model.model.a",),
    "sdxl": ("conditioner.embedders.0.transformer.a", "conditioner.embedders.1.model.a"),
}
MARK = torch.zeros(0)
SPREAD = torch.tensor([-0.1, 0.1] * 8)
Tensors = Mapping[str, torch.Tensor]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory with nothing but places for tokenizers."""
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / "base" / name).mkdir(parents=True)
    return tmp_path / "base"


def with_scheduler(base: Path, **settings: object) -> None:
    """Put a scheduler into the base."""
    (base / "scheduler").mkdir()
    (base / "scheduler/scheduler_config.json").write_text(json.dumps(settings), "utf-8")


def found(
    base: Path,
    family: str,
    tensors: Tensors | None = None,
    metadata: dict[str, str] | None = None,
    **config: object,
) -> ModelFiles:
    """What is found in a file of that family with these marks; it has names, and no weights."""
    path = base.parent / "model.safetensors"
    names = (f"{UNET}.a", "first_stage_model.a", *TEXTS[family])
    save_file({**{name: torch.zeros(1) for name in names}, **(tensors or {})}, path, metadata)
    return find_model_files(
        DiffusionConfig.model_validate({"model": str(path), "base": str(base), **config})
    )


def sampling(base: Path, family: str, *args: object, **config: object) -> Sampling:
    """How it is sampled."""
    return found(base, family, *args, **config).sampling  # type: ignore[arg-type]  # passed on


def spec(key: str, value: str) -> dict[str, str]:
    """Metadata with one key."""
    return {f"modelspec.{key}": value}


@pytest.mark.parametrize("family", TEXTS)
@pytest.mark.parametrize(
    ("tensors", "metadata", "prediction"),
    [
        ({"v_pred": MARK}, None, "v_prediction"),
        ({}, spec("prediction_type", "v"), "v_prediction"),
        ({}, spec("prediction_type", "epsilon"), "epsilon"),
        ({}, spec("predict_key", "v"), "v_prediction"),
        ({}, spec("predict_key", "epsilon"), "epsilon"),
        ({}, spec("prediction_type", "V-Prediction"), "v_prediction"),
        ({"v_pred": MARK}, spec("prediction_type", "v"), "v_prediction"),
    ],
)
def test_marks_decide_in_every_family(
    base: Path, family: str, tensors: Tensors, metadata: dict[str, str] | None, prediction: str
) -> None:
    """Whatever is usual in the family, and whatever the base says, which is there for its tokenizers."""
    with_scheduler(base, _class_name="DDIMScheduler", prediction_type="sample", beta_end=0.5)
    made = sampling(base, family, tensors, metadata)
    assert made.prediction == made.scheduler["prediction_type"] == prediction
    assert made.scheduler["beta_end"] == 0.5
    mark = "v_pred" if tensors else next(iter(metadata or {}))
    assert made.reasons == (f"{prediction} by {made.reasons[0].split(' by ')[1]}",)
    assert mark in made.reasons[0]


@pytest.mark.parametrize(
    ("family", "tensors", "metadata", "prediction"),
    [
        ("sd15", {}, None, "epsilon"),
        ("sdxl", {}, None, "epsilon"),
        ("sd21", {}, None, "v_prediction"),
        ("sd21", {}, spec("architecture", "stable-diffusion-v2-512"), "epsilon"),
        ("sd21", {}, spec("architecture", "stable-diffusion-v2-768-v"), "v_prediction"),
        ("sd21", {NORM: SPREAD}, None, "v_prediction"),
        ("sd21", {NORM: SPREAD.half()}, None, "v_prediction"),
        ("sd21", {NORM: SPREAD.bfloat16()}, None, "v_prediction"),
        ("sd21", {NORM: SPREAD / 2}, None, "epsilon"),
        ("sd21", {NORM: SPREAD}, spec("architecture", "stable-diffusion-v2-512"), "epsilon"),
        ("sd21", {f"{UNET}.input_blocks.0.0.weight": torch.zeros(2, 9, 3, 3)}, None, "epsilon"),
        ("sdxl", {NORM: SPREAD}, None, "epsilon"),
    ],
)
def test_without_marks_the_family_and_the_weights_decide(
    base: Path, family: str, tensors: Tensors, metadata: dict[str, str] | None, prediction: str
) -> None:
    """Files of Stable Diffusion 2 have a layer that tells those for velocity, as ComfyUI does."""
    assert sampling(base, family, tensors, metadata).prediction == prediction


@pytest.mark.parametrize(
    ("family", "tensors", "metadata", "reason"),
    [
        (
            "sdxl",
            {"v_pred": MARK},
            spec("prediction_type", "epsilon"),
            "v_prediction by the tensor v_pred, epsilon by modelspec.prediction_type",
        ),
        (
            "sd15",
            {},
            {**spec("prediction_type", "epsilon"), **spec("predict_key", "v")},
            "epsilon by modelspec.prediction_type in the metadata, v_prediction by",
        ),
        (
            "sd21",
            {},
            {
                **spec("prediction_type", "epsilon"),
                **spec("architecture", "stable-diffusion-v2-768-v"),
            },
            "by modelspec.architecture stable-diffusion-v2-768-v",
        ),
        ("sdxl", {}, spec("architecture", "stable-diffusion-v1"), "are those of sdxl"),
        ("sd15", {}, spec("architecture", "stable-diffusion-xl-v1-base"), "are those of sd15"),
        ("sdxl", {}, spec("architecture", "stable-diffusion-xl-v1-refiner"), "v1-refiner"),
        ("sdxl", {}, spec("prediction_type", "flow"), "modelspec.prediction_type: 'flow'"),
        ("sdxl", {"ztsnr": MARK}, None, "the tensor ztsnr says zero terminal SNR"),
        ("sdxl", {"ztsnr": MARK, "edm_vpred.sigma_max": torch.tensor(80.0)}, None, "and ztsnr"),
        ("sdxl", {"edm_mean": torch.zeros(4)}, None, "no values of edm_std"),
        ("sdxl", {"edm_vpred.sigma_min": torch.tensor(0.1)}, None, "of edm_vpred.sigma_max"),
        ("sdxl", {"edm_flow": MARK}, None, "the mark edm_flow, which is not known"),
        (
            "sdxl",
            {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4), "v_pred": MARK},
            None,
            "epsilon by the tensor edm_mean, v_prediction by the tensor v_pred",
        ),
        (
            "sdxl",
            {"edm_mean": torch.zeros(4), "edm_vpred.sigma_max": torch.tensor(80.0)},
            None,
            "are marks of different models",
        ),
        (
            "sdxl",
            {"edm_vpred.sigma_max": torch.tensor(80.0)},
            spec("predict_key", "epsilon"),
            "epsilon by modelspec.predict_key",
        ),
    ],
)
def test_contradictions_and_unknown_marks_are_rejected_by_name(
    base: Path, family: str, tensors: Tensors, metadata: dict[str, str] | None, reason: str
) -> None:
    """Instead of one of them being used in silence."""
    with pytest.raises(ModelMissingError) as error:
        found(base, family, tensors, metadata)
    assert reason in str(error.value)


def test_the_configuration_settles_a_contradiction(base: Path) -> None:
    """And says what metadata in unknown words means."""
    for metadata in (spec("prediction_type", "epsilon"), spec("prediction_type", "flow")):
        made = sampling(
            base, "sdxl", {"v_pred": MARK, "ztsnr": MARK}, metadata, prediction_type="v_prediction"
        )
        assert made.scheduler["prediction_type"] == "v_prediction"
        assert made.reasons == (
            "v_prediction by the configuration",
            "zero terminal SNR by the tensor ztsnr",
        )
    with pytest.raises(ModelMissingError, match="epsilon by the configuration"):
        found(base, "sdxl", {"v_pred": MARK, "ztsnr": MARK}, prediction_type="epsilon")


def test_the_weights_of_stable_diffusion_2_may_contradict_the_base(base: Path) -> None:
    """Untrained weights say nothing, so that the base decides."""
    with_scheduler(base, _class_name="DDIMScheduler", prediction_type="v_prediction")
    assert sampling(base, "sd21", {NORM: SPREAD * 0}).prediction == "v_prediction"
    with pytest.raises(
        ModelMissingError, match=r"is epsilon by the deviation 0\.050.*v_prediction by"
    ):
        found(base, "sd21", {NORM: SPREAD / 2})
    settled = sampling(base, "sd21", {NORM: SPREAD / 2}, prediction_type="epsilon")
    assert settled.prediction == "epsilon"


@pytest.mark.parametrize("family", TEXTS)
def test_zero_terminal_snr_gets_a_scheduler_that_has_it(base: Path, family: str) -> None:
    """The usual one of Stable Diffusion 1.5, PNDM, would leave it out without a word."""
    made = sampling(base, family, {"v_pred": MARK, "ztsnr": MARK})
    assert made.scheduler["_class_name"] == "EulerDiscreteScheduler"
    assert made.scheduler["rescale_betas_zero_snr"] is True


def test_marks_of_continuous_noise_choose_the_scheduler(base: Path) -> None:
    """CosXL and Playground 2.5, whose latents have a mean and a deviation."""
    tensors = {
        "edm_vpred.sigma_max": torch.tensor(120.0),
        "edm_vpred.sigma_min": torch.tensor([0.25], dtype=torch.float16),
    }
    cosxl = sampling(base, "sdxl", tensors)
    assert cosxl.scheduler == {
        "_class_name": "EDMEulerScheduler",
        "sigma_data": 1.0,
        "sigma_min": 0.25,
        "sigma_max": 120.0,
        "prediction_type": "v_prediction",
    }
    assert cosxl.reasons[1] == "continuous noise (EDM) up to 120 by the tensors edm_*"
    playground = found(
        base, "sdxl", {"edm_mean": torch.ones(1, 4, 1, 1), "edm_std": torch.full((1, 4, 1, 1), 2.0)}
    )
    assert playground.sampling.scheduler["_class_name"] == "EDMDPMSolverMultistepScheduler"
    assert playground.sampling.prediction == "epsilon"
    assert playground.vae_overrides == {
        "scaling_factor": 0.5,
        "latents_mean": [1.0] * 4,
        "latents_std": [2.0] * 4,
    }


def test_a_variant_that_predicts_something_else_is_rejected(base: Path) -> None:
    """Both would be sampled alike."""
    other = base.parent / "unet.safetensors"
    save_file({"input_blocks.a": torch.zeros(1), "v_pred": MARK}, other)
    with pytest.raises(
        ModelMissingError, match=r"is v_prediction by the tensor v_pred, and the model"
    ):
        found(base, "sdxl", variants={4: str(other)})
    settled = found(base, "sdxl", variants={4: str(other)}, prediction_type="v_prediction")
    assert list(settled.variants) == [4]


async def test_marked_files_give_the_images_of_the_same_model_in_a_directory(
    tmp_path: Path,
) -> None:
    """With the scheduler that the marks mean written out in its configuration."""
    folder = tiny_sdxl.write(tmp_path / "own")
    single = load_file(original_layout.write(folder, tmp_path / "one.safetensors"))
    bare = shutil.copytree(
        folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors", "scheduler")
    )
    marks: dict[str, tuple[dict[str, torch.Tensor], dict[str, object]]] = {
        "ztsnr": (
            {"v_pred": MARK, "ztsnr": MARK},
            {
                "_class_name": "EulerDiscreteScheduler",
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "beta_schedule": "scaled_linear",
                "steps_offset": 1,
                "timestep_spacing": "leading",
                "prediction_type": "v_prediction",
                "rescale_betas_zero_snr": True,
            },
        ),
        "cosxl": (
            {"edm_vpred.sigma_max": torch.tensor(50.0)},
            {
                "_class_name": "EDMEulerScheduler",
                "sigma_max": 50.0,
                "sigma_data": 1.0,
                "prediction_type": "v_prediction",
            },
        ),
    }
    for name, (tensors, scheduler) in marks.items():
        path = tmp_path / f"{name}.safetensors"
        save_file({**single, **tensors}, path)
        (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")
        images = []
        for config in ({"model": str(path), "base": str(bare)}, {"model": str(folder)}):
            engine = DiffusionEngine(DiffusionConfig.model_validate({**config, "device": "cpu"}))
            await engine.start()
            images += await generate_images(engine, image_task(steps=2, scheduler=None))
            await engine.stop()
        assert np.abs(images[0].astype(int) - images[1]).max() <= 1, name
