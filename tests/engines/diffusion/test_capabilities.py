"""What the engine says it can do comes from configuration, model and family, in this order."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from atelier_engines.capabilities import (
    CancelSupport,
    ImageCapabilities,
    ImageFeature,
    Reproducibility,
)
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine, capabilities
from atelier_engines.diffusion.config import SchedulerName
from atelier_engines.diffusion.schedulers import NAMES
from atelier_engines.local import cpu


async def pictures(**config: object) -> ImageCapabilities:
    """What a started engine says about images."""
    engine = DiffusionEngine(DiffusionConfig.model_validate({"device": "cpu", **config}))
    await engine.start()
    found = engine.capabilities.image
    await engine.stop()
    assert found is not None
    return found


async def test_the_family_has_the_last_word(model: Path) -> None:
    """A model without advice, and a configuration without wishes."""
    found = await pictures(model=str(model))
    assert found.steps is not None
    assert found.guidance is not None
    assert (found.steps.default, found.guidance.default) == (30, 5.0)
    assert (found.width.default, found.height.default) == (64, 64)
    assert found.schedulers[0] == "euler"
    assert sorted(found.schedulers) == sorted(get_args(SchedulerName)) == sorted(NAMES)


async def test_the_models_advice_is_taken_and_the_configuration_overrides_it(
    model: Path, tmp_path: Path
) -> None:
    """atelier.json may hold more than this engine reads."""
    folder = shutil.copytree(model, tmp_path / "model")
    advice = {
        "default_steps": 6,
        "default_guidance": 2.5,
        "default_size": [128, 96],
        "styles": ["flat"],
    }
    (folder / "atelier.json").write_text(json.dumps(advice), "utf-8")
    found = await pictures(model=str(folder))
    assert found.steps is not None
    assert found.guidance is not None
    assert (found.steps.default, found.guidance.default) == (6, 2.5)
    assert (found.width.default, found.height.default) == (128, 96)
    found = await pictures(
        model=str(folder), steps=9, guidance=0.0, width=64, scheduler="ddim", preview_interval=2
    )
    assert found.steps is not None
    assert found.guidance is not None
    assert (found.steps.default, found.guidance.default) == (9, 0.0)
    assert (found.width.default, found.height.default) == (64, 96)
    assert found.schedulers[0] == "ddim"
    assert found.default_preview_interval == 2


async def test_the_default_size_lies_within_the_configured_limits(model: Path) -> None:
    """Shrunk in its proportions, onto the grid."""
    found = await pictures(model=str(model), width=1024, height=512, max_pixels=128 * 128)
    assert (found.width.default, found.height.default) == (176, 88)
    found = await pictures(model=str(model), width=1024, height=512, max_side=256)
    assert (found.width.default, found.height.default) == (256, 128)


def test_on_the_cpu_it_claims_equal_bits(engine: DiffusionEngine) -> None:
    """And cancels within a step."""
    found = engine.capabilities
    assert found.reproducibility is Reproducibility.BIT_EXACT
    assert found.cancel is CancelSupport.STEP
    assert set(found.versions) == {"torch", "diffusers", "transformers", "pillow"}


def test_before_the_start_it_already_says_that_it_makes_images() -> None:
    """The server routes by it."""
    found = DiffusionEngine(DiffusionConfig()).capabilities
    assert found.image is not None
    assert [model.name for model in found.image.models] == ["atelier-tiny"]


def test_every_setting_is_described() -> None:
    """The configuration reference is made of the descriptions."""
    assert all(field.description for field in DiffusionConfig.model_fields.values())


def test_a_runtime_without_loras_offers_none() -> None:
    """Though some are configured: the denoiser decides."""
    config = DiffusionConfig(loras={"red": "/red.safetensors"})
    info = capabilities.unloaded_info(config)
    offered = capabilities.build_capabilities(config, info).image
    plain = capabilities.build_capabilities(config, replace(info, supports_loras=False)).image
    assert offered is not None
    assert plain is not None
    assert offered.features - plain.features == {ImageFeature.LORA}
    assert (plain.loras, plain.max_loras) == ((), 0)


@pytest.mark.parametrize(
    ("key", "new"),
    [
        ("pin", "keep_loaded"),
        ("max_count", "max_images"),
        ("prediction", "prediction_type"),
        ("prompt_cache", "prompt_cache_bytes"),
        ("spacing", "timestep_spacing"),
        ("threads", "`threads` at the top of the configuration"),
    ],
)
def test_a_renamed_setting_is_refused_by_its_new_name(key: str, new: str) -> None:
    """So that nobody has to look it up."""
    with pytest.raises(ValidationError, match=rf"{key}\s+is now .*{new}"):
        DiffusionConfig.model_validate({key: 1})


@pytest.mark.parametrize(
    "setting",
    [
        {"modle": "x"},
        {"model": ""},
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"precision": "int8"},
        {"steps": 0},
        {"width": 100},
        {"scheduler": "plms"},
        {"variant": "../fp16"},
        {"max_pixels": 1},
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: dict[str, Any]) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValidationError):
        DiffusionConfig(**setting)


@pytest.mark.parametrize(
    ("quota", "most"),
    [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 4096), ("?", 4096)],
)
def test_a_containers_quota_limits_the_cores(tmp_path: Path, quota: str, most: int) -> None:
    """A file that is not understood limits nothing."""
    file = tmp_path / "cpu.max"
    file.write_text(quota, "ascii")
    assert 1 <= cpu.usable_cores(file) <= min(most, cpu.usable_cores(tmp_path / "none"))


def test_half_of_the_cores_are_left_to_others() -> None:
    """Unless it is said otherwise."""
    before = cpu.configured_threads()
    try:
        cpu.configure_threads(None)
        assert cpu.thread_count() == max(1, cpu.usable_cores() // 2)
        cpu.configure_threads(7)
        assert cpu.thread_count() == 7
    finally:
        cpu.configure_threads(before)
