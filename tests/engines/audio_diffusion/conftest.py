"""Small random audio models, and what they warn of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch

from atelier_engines.local import cpu
from tests.engines.audio_diffusion import tiny_stable_audio, tiny_stable_audio_3, tiny_tangoflux

_NOT_OURS = (
    "ignore:.*torch.nn.utils.weight_norm.* is deprecated:FutureWarning",
    "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
)
"""diffusers' Oobleck is made with an older form of weight normalization."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings are errors here too, but for those that only diffusers and torch can mend."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings(*_NOT_OURS))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in another order have other last bits: what is compared runs on one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    cpu.configure_threads(1)
    yield
    cpu.configure_threads(None)
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tangoflux(tmp_path_factory: pytest.TempPathFactory) -> tiny_tangoflux.TinyTangoFlux:
    """A model in the published layout; not to be changed."""
    return tiny_tangoflux.write(tmp_path_factory.mktemp("tangoflux"))


@pytest.fixture(scope="session")
def stable_audio(tmp_path_factory: pytest.TempPathFactory) -> tiny_stable_audio.TinyStableAudio:
    """A model in diffusers' layout; not to be changed."""
    return tiny_stable_audio.write(tmp_path_factory.mktemp("stable_audio"))


@pytest.fixture(scope="session")
def stable_audio_3(
    tmp_path_factory: pytest.TempPathFactory,
) -> tiny_stable_audio_3.TinyStableAudio3:
    """A model in diffusers' layout; not to be changed."""
    return tiny_stable_audio_3.write(tmp_path_factory.mktemp("stable_audio_3"))
