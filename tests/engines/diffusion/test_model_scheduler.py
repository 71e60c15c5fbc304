"""A model's own scheduler is used as diffusers uses it, or the start is rejected by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.schedulers import NAMES
from atelier_engines.errors import ModelMissingError, UnsupportedError
from atelier_engines.event import Step
from tests.engines.diffusion import tiny_sd, tiny_sdxl
from tests.engines.diffusion.calls import collect_events, generate_images, image_task

DISCRETE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model directories; their schedulers are changed by the tests."""
    root = tmp_path_factory.mktemp("models")
    return {
        "sd15": tiny_sd.write(root / "1", "sd15"),
        "sdxl": tiny_sdxl.write(root / "xl"),
    }


@pytest.fixture(params=["sdxl"])
def model(models: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model whose scheduler the test changes."""
    return shutil.copytree(models[request.param], tmp_path / "model")


def set_scheduler(model: Path, kind: str, **settings: object) -> None:
    """Give the model another scheduler of its own."""
    config = {"_class_name": kind, **settings}
    (model / "scheduler/scheduler_config.json").write_text(json.dumps(config), "utf-8")
    index = model / "model_index.json"
    parts = json.loads(index.read_text("utf-8"))
    index.write_text(json.dumps({**parts, "scheduler": ["diffusers", kind]}), "utf-8")


async def started(model: Path, **config: object) -> tuple[DiffusionEngine, ImageCapabilities]:
    """An engine that was started, and its capabilities."""
    engine = DiffusionEngine(
        DiffusionConfig.model_validate({"model": str(model), "device": "cpu", **config})
    )
    await engine.start()
    assert engine.capabilities.image is not None
    return engine, engine.capabilities.image


OWN = [
    ("sdxl", "EDMEulerScheduler", {"sigma_max": 60.0}, "EDMEulerScheduler"),
    ("sdxl", "EDMDPMSolverMultistepScheduler", {}, "EDMDPMSolverMultistepScheduler"),
    ("sdxl", "SASolverScheduler", DISCRETE, "SASolverScheduler"),
    ("sdxl", "DDIMScheduler", DISCRETE, "DDIMScheduler"),
    ("sdxl", "PNDMScheduler", DISCRETE, "PNDMScheduler"),
    (
        "sdxl",
        "DPMSolverMultistepScheduler",
        {**DISCRETE, "solver_order": 3, "use_karras_sigmas": True},
        "DPMSolverMultistepScheduler",
    ),
    ("sdxl", "EulerDiscreteScheduler", {**DISCRETE, "use_karras_sigmas": True}, "euler"),
    ("sd15", "DDIMScheduler", DISCRETE, "ddim"),
    ("sdxl", "LMSDiscreteScheduler", DISCRETE, "LMSDiscreteScheduler"),
    ("sdxl", "EulerDiscreteScheduler", {**DISCRETE, "use_beta_sigmas": True}, "euler"),
]


@pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
@pytest.mark.parametrize(("model", "kind", "settings", "name"), OWN, indirect=["model"])
async def test_a_models_own_scheduler_gives_diffusers_images(
    model: Path, kind: str, settings: dict[str, object], name: str
) -> None:
    """It is the default, under a name that says what it is; outdated settings are corrected as there."""
    set_scheduler(model, kind, **settings)
    engine, capabilities = await started(model)
    assert capabilities.schedulers[0] == name
    task = image_task(scheduler=None, steps=4)
    (made,) = await generate_images(engine, task)
    (named,) = await generate_images(engine, image_task(scheduler=name, steps=4))
    await engine.stop()
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    wanted = pipeline(
        task.prompt,
        num_inference_steps=4,
        guidance_scale=task.guidance,
        generator=torch.Generator("cpu").manual_seed(task.seeds[0]),
        width=task.width,
        height=task.height,
    )
    assert np.array_equal(made, np.asarray(wanted.images[0]))
    assert np.array_equal(made, named)


async def test_a_model_of_continuous_noise_supports_its_own_scheduler_alone(model: Path) -> None:
    """All others have another noise schedule; previews show what its formula estimates."""
    set_scheduler(model, "EDMEulerScheduler", prediction_type="v_prediction", sigma_data=1.0)
    engine, capabilities = await started(model)
    assert capabilities.schedulers == ("EDMEulerScheduler",)
    task = image_task(scheduler=None, preview_interval=1)
    events = await collect_events(engine, task)
    assert all(event.preview for event in events if isinstance(event, Step))
    with pytest.raises(
        UnsupportedError, match=r"continuous noise.*must be one of EDMEulerScheduler"
    ):
        await generate_images(engine, image_task(scheduler="euler"))
    await engine.stop()
    with pytest.raises(ModelMissingError, match="does not support the configured scheduler euler"):
        await started(model, scheduler="euler")
    with pytest.raises(ModelMissingError, match="which has no timestep_spacing"):
        await started(model, timestep_spacing="trailing")


async def test_zero_terminal_snr_excludes_schedulers_that_ignore_it(model: Path) -> None:
    """They would take the plain noise schedule without a word."""
    set_scheduler(
        model,
        "EulerDiscreteScheduler",
        **DISCRETE,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    engine, capabilities = await started(model)
    lacking = {"heun", "pndm", "dpm2", "dpm2_a", "deis", "dpmpp_sde", "dpmpp_sde_karras"}
    assert set(NAMES) - set(capabilities.schedulers) == lacking
    with pytest.raises(UnsupportedError, match="this model has zero terminal SNR"):
        await generate_images(engine, image_task(scheduler="heun"))
    await engine.stop()


REJECTED = [
    ("FlowMatchEulerDiscreteScheduler", {}, "it is not supported; supported are"),
    ("DPMSolverSDEScheduler", DISCRETE, "its noise comes from torchsde"),
    ("DDIMParallelScheduler", DISCRETE, "it is not supported; set `scheduler`"),
    ("NoSuchScheduler", {}, "is NoSuchScheduler: it is not supported"),
    ("EulerDiscreteScheduler", {"beta_schedule": "unheard of"}, "its configuration cannot be used"),
]


@pytest.mark.parametrize(("kind", "settings", "reason"), REJECTED)
async def test_a_scheduler_that_cannot_be_used_is_rejected_by_name(
    model: Path, kind: str, settings: dict[str, object], reason: str
) -> None:
    """Never replaced in silence."""
    set_scheduler(model, kind, **settings)
    with pytest.raises(ModelMissingError) as error:
        await started(model)
    assert kind in str(error.value)
    assert reason in str(error.value)


async def test_another_scheduler_is_used_where_the_configuration_says_so(model: Path) -> None:
    """With the noise schedule of the model's own."""
    set_scheduler(model, "DPMSolverSDEScheduler", **DISCRETE)
    engine, capabilities = await started(model, scheduler="dpmpp_sde")
    assert capabilities.schedulers[0] == "dpmpp_sde"
    assert "DPMSolverSDEScheduler" not in capabilities.schedulers
    assert engine.inspect().scheduler.config["beta_end"] == 0.012
    await engine.stop()
