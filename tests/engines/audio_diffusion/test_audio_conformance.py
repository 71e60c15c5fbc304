"""The audio engines keep what every engine promises."""

from __future__ import annotations

import pytest

from atelier_engines import stable_audio as open_audio
from atelier_engines import stable_audio_3 as third_audio
from atelier_engines import tangoflux as tango
from atelier_engines.conformance import EngineConformance
from atelier_engines.engine import Engine
from tests.engines.audio_diffusion import tiny_clap
from tests.engines.audio_diffusion.tiny_stable_audio import TinyStableAudio
from tests.engines.audio_diffusion.tiny_stable_audio_3 import TinyStableAudio3
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux


class TestTangoFlux(EngineConformance):
    """On the CPU, with a small random model."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tangoflux: TinyTangoFlux) -> Engine:
        """Not started."""
        return tango.create_engine(tangoflux.config())


class TestSharedRuns(EngineConformance):
    """With clips that share runs of the denoiser."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tangoflux: TinyTangoFlux) -> Engine:
        """Not started."""
        return tango.create_engine(tangoflux.config(max_batch=8))


class TestStableAudio(EngineConformance):
    """On the CPU, with a small random model."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, stable_audio: TinyStableAudio) -> Engine:
        """Not started."""
        return open_audio.create_engine(stable_audio.config())


class TestStableAudio3(EngineConformance):
    """On the CPU, with a small random model."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, stable_audio_3: TinyStableAudio3) -> Engine:
        """Not started."""
        return third_audio.create_engine(stable_audio_3.config())


class TestCandidates(EngineConformance):
    """With what scores several candidates of a task."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, tangoflux: TinyTangoFlux, tmp_path_factory: pytest.TempPathFactory) -> Engine:
        """Not started."""
        clap = tiny_clap.write(tmp_path_factory.mktemp("clap") / "model")
        return tango.create_engine(tangoflux.config(prompt_match={"model": str(clap)}))
