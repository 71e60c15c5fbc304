"""The stable_audio engine makes exactly what diffusers' pipeline makes of the same parts, alone and in company."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.errors import EngineUnavailableError, InvalidTaskError, ModelMissingError
from atelier_engines.stable_audio import create_engine
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import clip, task
from tests.engines.audio_diffusion.tiny_stable_audio import LATENTS, RATE, TinyStableAudio

TOLERANCE = 1e-5

COMPANY = (
    task(),
    task(prompt="a dog barks", seed=2**40 + 3, duration_seconds=1.3, steps=6),
    task(guidance=1.0, seed=8, steps=3),
    task(guidance=7.0, negative_prompt="low noise", seed=9),
    task(seed=11, duration_seconds=2.3, steps=2),
)


@pytest.fixture(scope="module")
def alone(stable_audio: TinyStableAudio) -> Iterator[AudioEngine]:
    """Started, as it comes: one clip in each run."""
    yield from started(stable_audio)


@pytest.fixture(scope="module")
def sharing(stable_audio: TinyStableAudio) -> Iterator[AudioEngine]:
    """Started, with up to six rows in each run."""
    yield from started(stable_audio, max_batch=6)


def started(stable_audio: TinyStableAudio, **settings: object) -> Iterator[AudioEngine]:
    """An engine between its start and its stop."""
    made = create_engine(stable_audio.config(**settings))
    assert isinstance(made, AudioEngine)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.mark.parametrize("wanted", COMPANY, ids=range(len(COMPANY)))
async def test_a_clip_is_what_the_pipeline_makes(
    alone: AudioEngine, stable_audio: TinyStableAudio, wanted: AudioTask
) -> None:
    """With the same solver, whose noise comes from the same seed."""
    made, expected = await clip(alone, wanted), stable_audio.compose(wanted)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() <= TOLERANCE


@pytest.fixture(params=["alone", "sharing"])
def either(request: pytest.FixtureRequest, alone: AudioEngine, sharing: AudioEngine) -> AudioEngine:
    """One after the other."""
    return alone if request.param == "alone" else sharing


async def test_a_clip_is_the_same_in_mixed_company(
    either: AudioEngine, stable_audio: TinyStableAudio
) -> None:
    """With others of other texts, lengths, steps and guidances, all at once."""
    made = await asyncio.gather(*(clip(either, wanted) for wanted in COMPANY))
    for wanted, found in zip(COMPANY, made, strict=True):
        assert np.abs(found - stable_audio.compose(wanted)).max() <= TOLERANCE


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.3, LATENTS * 2048 / RATE])
async def test_every_length_is_exact(alone: AudioEngine, seconds: float) -> None:
    """Diffusers' pipeline makes 2.3 s one frame too short; the longest is all that the latents hold."""
    made = await clip(alone, task(duration_seconds=seconds, steps=2))
    assert len(made) == round(seconds * RATE)
    assert made[-1].any()


async def test_the_limits_are_those_of_the_model(alone: AudioEngine) -> None:
    """No silence follows; one step would begin at the end of the noise schedule."""
    audio = alone.capabilities.audio
    assert audio is not None
    assert audio.steps is not None
    assert audio.duration_seconds.max == audio.audible_seconds == LATENTS * 2048 / RATE
    assert audio.steps.min == 2
    assert "Community License" in audio.models[0].license


async def test_a_long_text_is_refused(alone: AudioEngine) -> None:
    """It is not cut off."""
    with pytest.raises(InvalidTaskError, match="17 tokens, and the model reads at most 16"):
        await clip(alone, task(prompt=" ".join(["rain"] * 16)))


async def test_nothing_is_loaded_before_the_licence_is_accepted(
    stable_audio: TinyStableAudio,
) -> None:
    """The error says what to set."""
    with pytest.raises(EngineUnavailableError, match=r"Community License.*accept_license: true"):
        await create_engine(stable_audio.config(accept_license=False)).start()


async def test_a_folder_without_weights_or_with_another_scheduler_is_refused(
    stable_audio: TinyStableAudio, tmp_path: Path
) -> None:
    """By name."""
    folder = tmp_path / "model"
    shutil.copytree(stable_audio.folder, folder)
    schedule = folder / "scheduler" / "scheduler_config.json"
    schedule.write_text(json.dumps({"_class_name": "EulerDiscreteScheduler"}))
    with pytest.raises(ModelMissingError, match=r"_class_name .*CosineDPMSolver"):
        await create_engine(stable_audio.config(model=str(folder))).start()
    shutil.copy(stable_audio.folder / "scheduler" / schedule.name, schedule)
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelMissingError, match=r"no \.safetensors weights in .*vae"):
        await create_engine(stable_audio.config(model=str(folder))).start()
