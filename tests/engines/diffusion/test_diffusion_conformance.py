"""The diffusion engine keeps what every engine promises, whatever it is made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_engines.conformance import EngineConformance
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.task import ControlType, ResourceProfile
from tests.engines.diffusion import tiny_sd, write_adapters


class TestDiffusion(EngineConformance):
    """On the CPU, with a small random model."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, model: Path) -> DiffusionEngine:
        """Not started."""
        return DiffusionEngine(DiffusionConfig(model=str(model), device="cpu"))


class TestTiny(EngineConformance):
    """Without configuration: the trained model with its ControlNet and its LoRA."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> DiffusionEngine:
        """Not started."""
        return DiffusionEngine(DiffusionConfig(device="cpu", max_batch=1))


class TestSteered(EngineConformance):
    """With ControlNets and LoRAs, runs that are shared, and as little memory as can be."""

    @pytest.fixture(autouse=True)
    def _diffusers_may_warn(self) -> Iterator[None]:
        """Of a second LoRA in a model, which is what is asked of it here."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, model: Path, tmp_path_factory: pytest.TempPathFactory) -> DiffusionEngine:
        """Not started."""
        folder = tmp_path_factory.mktemp("steered")
        for kind in ("canny", "depth"):
            write_adapters.write_controlnet(folder / kind, model, seed=1)
        for seed, name in enumerate(("style", "figure")):
            write_adapters.write_lora(folder / "loras" / name, model, seed=seed)
        return DiffusionEngine(
            DiffusionConfig(
                model=str(model),
                device="cpu",
                controlnets={kind: str(folder / kind.value) for kind in _KINDS},
                lora_directory=str(folder / "loras"),
                max_batch=4,
                profile=ResourceProfile.MEMORY,
            )
        )


_KINDS = (ControlType.CANNY, ControlType.DEPTH)


class TestOlder(EngineConformance):
    """Stable Diffusion 1.5's architecture."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tmp_path_factory: pytest.TempPathFactory) -> DiffusionEngine:
        """Not started."""
        folder = tiny_sd.write(tmp_path_factory.mktemp("sd15"), "sd15")
        return DiffusionEngine(DiffusionConfig(model=str(folder), device="cpu"))


class TestFewSteps(EngineConformance):
    """Without guidance, and with steps that are variants."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, model: Path) -> DiffusionEngine:
        """Not started."""
        weights = str(model / "unet" / "diffusion_pytorch_model.safetensors")
        return DiffusionEngine(
            DiffusionConfig(
                model=str(model),
                device="cpu",
                preset="lightning",
                variants={2: weights, 4: weights},
            )
        )
