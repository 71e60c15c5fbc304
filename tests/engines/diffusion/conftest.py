"""A small random model, the engine that runs it, and diffusers' own pipeline to compare with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.local import cpu
from tests.engines.diffusion import tiny_sdxl

diffusers_logging.disable_progress_bar()


_NUMPY_2 = (
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
)
"""diffusers' schedulers hand tensors to NumPy in ways that torch has yet to follow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings are errors here too, but for those that only diffusers and torch can mend."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings(*_NUMPY_2))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in another order have other last bits: what is compared runs on one thread each.

    The engine sets this for its own thread; OpenMP counts threads for each thread anew.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cpu.configure_threads(1)
    yield
    cpu.configure_threads(None)
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory; not to be changed."""
    return tiny_sdxl.write(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def engine(model: Path) -> Iterator[DiffusionEngine]:
    """A started engine on one CPU thread."""
    made = DiffusionEngine(DiffusionConfig(model=str(model), device="cpu", mask_mode="latent"))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(scope="session")
def pipeline(model: Path, engine: DiffusionEngine) -> StableDiffusionXLPipeline:
    """The same model in diffusers' pipeline, after the engine has set the number of threads."""
    del engine
    made: StableDiffusionXLPipeline = StableDiffusionXLPipeline.from_pretrained(
        model, dtype=torch.float32, add_watermarker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings of our own are to be seen by the tests that ask for them."""
    caplog.set_level(logging.WARNING, logger="atelier_engines")
