"""Audio engines whose denoiser and decoder are run by ONNX Runtime make what torch makes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")

from atelier_engines import stable_audio as open_audio
from atelier_engines import tangoflux as tango
from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.builds import BuildPlan
from atelier_engines.conformance import EngineConformance
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineUnavailableError
from tests.engines.audio_clips import clip, task
from tests.engines.audio_diffusion.test_initial_audio import begun
from tests.engines.audio_diffusion.tiny_stable_audio import TinyStableAudio
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux

TOLERANCE = 1e-5
"""Of the largest sample."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """An engine type with a small model."""

    config: Callable[..., AudioModelConfig]
    create: Callable[..., Engine]
    plan: Callable[..., BuildPlan]


@pytest.fixture(scope="module", params=["tangoflux", "stable_audio"])
def kind(
    request: pytest.FixtureRequest, tangoflux: TinyTangoFlux, stable_audio: TinyStableAudio
) -> Kind:
    """Each of them."""
    if request.param == "tangoflux":
        return Kind(config=tangoflux.config, create=tango.create_engine, plan=tango.plan_builds)
    return Kind(
        config=stable_audio.config, create=open_audio.create_engine, plan=open_audio.plan_builds
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where builds are kept: exports take seconds."""
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(scope="module")
def builds(kind: Kind, folder: Path) -> Path:
    """What `atelier build` builds for it."""
    said: list[str] = []
    plan = kind.plan(kind.config(runtime="onnx", builds_directory=folder))
    assert [target.name for target in plan.targets] == ["denoiser", "decoder"]
    for target in plan.targets:
        target.build(said.append)
        assert (folder / target.digest).is_dir()
    assert sum("differs from torch by at most" in line for line in said) == 2
    return folder


@pytest.fixture(scope="module")
def engine(kind: Kind, builds: Path) -> Iterator[Engine]:
    """Started from those builds, or not at all."""
    made = kind.create(
        kind.config(runtime="onnx", builds_directory=builds, on_missing_build="fail")
    )
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_it_makes_what_torch_makes(engine: Engine, kind: Kind) -> None:
    """From a prompt, from audio, and with prompts of another length; the versions say what ran it."""
    plain = kind.create(kind.config())
    await plain.start()
    for one in (
        task(),
        task(prompt="rain on a the roof dog wind", duration_seconds=1.3, steps=2),
        begun(0.5),
    ):
        wanted, found = await clip(plain, one), await clip(engine, one)
        assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()
    await plain.stop()
    assert "onnxruntime" in engine.capabilities.versions
    assert "onnxruntime" not in plain.capabilities.versions


async def test_without_a_build_it_says_what_to_run(kind: Kind, tmp_path: Path) -> None:
    """If it is not to build."""
    made = kind.create(
        kind.config(runtime="onnx", builds_directory=tmp_path, on_missing_build="fail")
    )
    with pytest.raises(EngineUnavailableError, match="run `atelier build`"):
        await made.start()


def test_nothing_is_built_before_the_licence_is_accepted(kind: Kind, tmp_path: Path) -> None:
    """For torch there is nothing to build at all."""
    assert kind.plan(kind.config()).targets == ()
    config = kind.config(runtime="onnx", builds_directory=tmp_path, accept_license=False)
    with pytest.raises(EngineUnavailableError, match="accept_license: true"):
        kind.plan(config)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "cuda:0"}, "onnx runs on the CPU"),
        ({"precision": "bfloat16"}, "onnx computes in float32"),
    ],
)
def test_settings_that_onnx_cannot_are_refused(
    kind: Kind, settings: dict[str, str], words: str
) -> None:
    """With what to change."""
    with pytest.raises(ValidationError, match=words):
        kind.config(runtime="onnx", **settings)


class TestOnnx(EngineConformance):
    """With what was built before."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tangoflux: TinyTangoFlux, folder: Path) -> Engine:
        """Not started, and built: exports take longer than a start may."""
        config = tangoflux.config(runtime="onnx", builds_directory=folder)
        for target in tango.plan_builds(config).targets:
            target.build(lambda _: None)
        return tango.create_engine(config)
