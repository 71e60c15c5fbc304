"""Audio-to-audio: clips begin with what the parts of diffusers make of the same audio, and the same share of noise."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderOobleck

from atelier_engines import stable_audio as open_audio
from atelier_engines import tangoflux as tango
from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.audio_diffusion.initial_audio import encode_audio
from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.audio_diffusion.oobleck import count_encoder_reach
from atelier_engines.conformance.tasks import random_audio
from atelier_engines.engine import Engine
from atelier_engines.event import Stage, Step
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import clip, events, task
from tests.engines.audio_diffusion.tiny_stable_audio import LATENTS, TinyStableAudio
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux

TOLERANCE = 1e-5
INITIAL = random_audio(task(), 5, share=0.7)


@pytest.fixture(scope="module")
def tangoflux_engine(tangoflux: TinyTangoFlux) -> Iterator[AudioEngine]:
    """Started, and sharing runs."""
    yield from started(tango.create_engine(tangoflux.config(max_batch=6)))


@pytest.fixture(scope="module")
def stable_audio_engine(stable_audio: TinyStableAudio) -> Iterator[AudioEngine]:
    """Started."""
    yield from started(open_audio.create_engine(stable_audio.config()))


def started(made: Engine) -> Iterator[AudioEngine]:
    """An engine between its start and its stop."""
    assert isinstance(made, AudioEngine)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


def begun(strength: float, **fields: object) -> AudioTask:
    """A task that begins with noise as audio."""
    return task(init_audio=INITIAL, strength=strength, **fields)


async def test_tangoflux_begins_where_the_strength_says(
    tangoflux_engine: AudioEngine, tangoflux: TinyTangoFlux
) -> None:
    """Of a strength between two steps, of one on a step, where 0.7 of 10 are 7, and of none; in mixed company."""
    company = [
        begun(0.6),
        begun(0.7, steps=10, guidance=1.0),
        begun(0.0),
        task(seed=3),
    ]
    made = await asyncio.gather(*(clip(tangoflux_engine, wanted) for wanted in company))
    for wanted, found in zip(company, made, strict=True):
        assert np.abs(found - tangoflux.compose(wanted)).max() <= TOLERANCE


@pytest.mark.parametrize(("strength", "left"), [(0.0, 0), (0.1, 1), (0.5, 2), (0.99, 3), (1.0, 4)])
async def test_strength_decides_how_many_steps_are_taken(
    tangoflux_engine: AudioEngine, strength: float, left: int
) -> None:
    """And told: the total is that of the steps taken; encoding the audio is a stage of its own."""
    found = await events(tangoflux_engine, begun(strength))
    steps = [(one.index, one.total) for one in found if isinstance(one, Step)]
    assert steps == [(index, left) for index in range(1, left + 1)]
    stages = [one.name for one in found if isinstance(one, Stage)]
    assert stages == ["encode_text", "encode_audio", "denoise", "decode"]


async def test_of_strength_1_stable_audio_makes_what_the_pipeline_makes(
    stable_audio_engine: AudioEngine, stable_audio: TinyStableAudio
) -> None:
    """Diffusers adds the audio to noise of the highest level, whatever it is."""
    wanted = begun(1.0, guidance=3.0)
    made, expected = (
        await clip(stable_audio_engine, wanted),
        stable_audio.compose_from_audio(wanted),
    )
    assert np.abs(made - expected).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("strength", "first"),
    [(1.0, 0), (0.9, 5), (0.5, 8), (0.25, 9), (0.01, 9), (0.0, 10)],
)
def test_stable_audio_begins_with_noise_of_at_most_that_share(
    stable_audio_engine: AudioEngine, stable_audio: TinyStableAudio, strength: float, first: int
) -> None:
    """Of 10 steps from level 500 to 0.3: the first of at most share / (1 - share), at least the last."""
    pipeline = stable_audio_engine.inspect()
    wanted = begun(strength, steps=10)
    with torch.inference_mode():
        start = pipeline.make(wanted, lambda _: None)
        request = next(request for request in start if request is not None) if strength else None
    schedule = pipeline.model.schedule(10)
    assert schedule.find_first_step(strength) == first
    assert strength in {0.0, 0.01, 1.0} or schedule.noise[first] <= strength / (1 - strength)
    if request is None or schedule.scale_input is None:
        return
    schedule.scheduler.set_begin_index(first)
    latents = stable_audio.begin(wanted, schedule.noise[first])
    expected = schedule.scale_input(latents, schedule.scheduler.timesteps[first])
    assert (request.inputs.latents[:1] - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(("frames", "runs"), [(40, 3), (1500, 4), (5000, 6)])
def test_audio_encoded_in_pieces_is_as_if_encoded_at_once(frames: int, runs: int) -> None:
    """Of 700 latents in six pieces; pieces of silence alone are encoded once."""
    torch.manual_seed(3)
    autoencoder = AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=2,
    ).eval()
    hop, count, ran = 8, 700, 0
    codec = LatentCodec(
        hop=hop, max_latents=count, reach=None, encoder_reach=count_encoder_reach([2, 4])
    )
    noise = np.random.default_rng(4).uniform(-1, 1, (frames, 2)).astype(np.float32)
    wave = torch.zeros(1, 2, count * hop)
    wave[0, :, :frames] = torch.from_numpy(noise.T)

    def encode(part: torch.Tensor) -> torch.Tensor:
        nonlocal ran
        ran += 1
        parameters: torch.Tensor = autoencoder.encode(part).latent_dist.parameters
        return parameters

    with torch.inference_mode():
        whole = encode(wave)
        made = finish(encode_audio(encode, codec, Samples(array=noise, sample_rate=8000), count))
    assert made.shape == whole.shape
    assert (made - whole).abs().max() <= TOLERANCE
    assert ran == 1 + runs


def finish(work: Generator[None, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """What a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as ended:
            made: torch.Tensor = ended.value
            return made


async def test_audio_longer_than_the_latents_is_cut(stable_audio_engine: AudioEngine) -> None:
    """What lies beyond them is not heard."""
    longest = random_audio(task(duration_seconds=LATENTS * 2048 / 44100), 7)
    longer = Samples(
        array=np.concatenate([longest.array, longest.array]), sample_rate=longest.sample_rate
    )
    wanted = begun(0.5, steps=2)
    made, cut = [
        await clip(stable_audio_engine, replace(wanted, init_audio=initial))
        for initial in (longer, longest)
    ]
    assert np.array_equal(made, cut)
