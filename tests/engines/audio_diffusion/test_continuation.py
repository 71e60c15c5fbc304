"""Continuation: a clip begins with the audio that is sent, and the parts of diffusers make the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from atelier_engines import stable_audio as open_audio
from atelier_engines import tangoflux as tango
from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.engine import Engine
from atelier_engines.event import Output, Step
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import clip, events, task
from tests.engines.audio_diffusion.tiny_stable_audio import TinyStableAudio
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux
from tests.engines.seam_measurement import find_largest_jump

TOLERANCE = 1e-5
HOP, RATE = 2048, 44100
FRAMES = 20000
SEAM = FRAMES // HOP * HOP


def tone(frames: int = FRAMES, hertz: float = 110.0) -> Samples:
    """A quiet tone, of which a jump would be seen."""
    wave = 0.1 * np.sin(2 * np.pi * hertz * np.arange(frames) / RATE)
    return Samples(array=np.stack([wave, 0.5 * wave], 1).astype(np.float32), sample_rate=RATE)


def continued(**fields: object) -> AudioTask:
    """A task that goes on after the tone."""
    return task(**{"init_audio": tone(), "continuation": True, "duration_seconds": 1.2, **fields})


@pytest.fixture(scope="module")
def tangoflux_engine(tangoflux: TinyTangoFlux) -> Iterator[AudioEngine]:
    """Started, and sharing runs."""
    yield from started(tango.create_engine(tangoflux.config(max_batch=6)))


@pytest.fixture(scope="module")
def stable_audio_engine(stable_audio: TinyStableAudio) -> Iterator[AudioEngine]:
    """Started."""
    yield from started(open_audio.create_engine(stable_audio.config()))


@pytest.fixture(params=["tangoflux", "stable_audio"])
def engine(
    request: pytest.FixtureRequest,
    tangoflux_engine: AudioEngine,
    stable_audio_engine: AudioEngine,
) -> AudioEngine:
    """One after the other."""
    return tangoflux_engine if request.param == "tangoflux" else stable_audio_engine


def started(made: Engine) -> Iterator[AudioEngine]:
    """An engine between its start and its stop."""
    assert isinstance(made, AudioEngine)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_tangoflux_goes_on_as_its_parts_do(
    tangoflux_engine: AudioEngine, tangoflux: TinyTangoFlux
) -> None:
    """With the latents of the audio put in before each step; in mixed company."""
    company = [
        continued(),
        continued(steps=7, guidance=1.0, seed=9),
        task(init_audio=tone(), strength=0.6),
        task(seed=3),
    ]
    made = await asyncio.gather(*(clip(tangoflux_engine, wanted) for wanted in company))
    for wanted, found in zip(company, made, strict=True):
        assert np.abs(found - tangoflux.compose(wanted)).max() <= TOLERANCE


@pytest.mark.parametrize("wanted", [continued(), continued(guidance=1.0, steps=6, seed=5)])
async def test_stable_audio_goes_on_as_the_pipeline_does(
    stable_audio_engine: AudioEngine, stable_audio: TinyStableAudio, wanted: AudioTask
) -> None:
    """With the same put in by the pipeline's callback."""
    made, expected = await clip(stable_audio_engine, wanted), stable_audio.continue_audio(wanted)
    assert np.abs(made - expected).max() <= TOLERANCE


async def test_the_beginning_is_the_audio_itself(engine: AudioEngine) -> None:
    """Sample by sample, but for one gain where the whole would clip; its latents are those of the audio."""
    wanted = continued()
    made = await clip(engine, wanted)
    assert wanted.init_audio is not None
    assert len(made) == round(1.2 * RATE)
    audio = wanted.init_audio.array[: SEAM - HOP]
    gain = float((made[: len(audio)] * audio).sum() / (audio**2).sum())
    assert 0 < gain <= 1 + 1e-6
    assert np.abs(made[: len(audio)] - gain * audio).max() <= TOLERANCE
    assert made[FRAMES:].any()


async def test_there_is_no_jump_at_the_seam(engine: AudioEngine) -> None:
    """No two neighbours around it differ by more than those on one of its sides do."""
    made = await clip(engine, continued())
    at_seam, elsewhere = find_largest_jump(made, SEAM - HOP, SEAM)
    assert at_seam <= elsewhere


async def test_the_rest_depends_on_what_it_follows(engine: AudioEngine) -> None:
    """Other audio, and other words, are followed by something else; equal tasks are equal."""
    loud = Samples(array=tone(hertz=900.0).array * 8, sample_rate=RATE)
    wanted = [
        continued(),
        continued(),
        continued(init_audio=loud),
        continued(prompt="a dog barks"),
    ]
    first, again, other, said = [(await clip(engine, one))[FRAMES:] for one in wanted]
    assert np.array_equal(first, again)
    assert not np.allclose(shape(first), shape(other), atol=1e-4)
    assert not np.allclose(shape(first), shape(said), atol=1e-4)


def shape(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """A wave whatever its gain."""
    scaled: NDArray[np.float32] = wave / np.abs(wave).max()
    return scaled


async def test_all_steps_are_taken_whatever_the_strength(engine: AudioEngine) -> None:
    """It has no effect."""
    weak, strong = [await events(engine, continued(strength=value)) for value in (0.1, 0.9)]
    assert [one.total for one in weak if isinstance(one, Step)] == [4] * 4
    assert isinstance(weak[-1], Output)
    assert isinstance(strong[-1], Output)
    assert np.array_equal(weak[-1].media.array, strong[-1].media.array)  # type: ignore[union-attr]  # samples


@pytest.mark.parametrize("seconds", [0.2, 0.4])
async def test_the_shortest_and_the_longest_audio_are_continued(
    engine: AudioEngine, seconds: float
) -> None:
    """The first by much, the second by the shortest that may follow."""
    for wanted in (seconds + 0.1, 1.1):
        audio = tone(round(seconds * RATE))
        made = await clip(engine, continued(init_audio=audio, duration_seconds=wanted))
        assert len(made) == round(wanted * RATE)


async def test_candidates_all_go_on_after_the_audio(engine: AudioEngine) -> None:
    """Each seed makes another continuation of the same beginning."""
    first, second = [await clip(engine, replace(continued(), seed=seed)) for seed in (1, 2)]
    assert not np.allclose(shape(first[FRAMES:]), shape(second[FRAMES:]), atol=1e-4)
