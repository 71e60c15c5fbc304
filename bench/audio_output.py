"""What becomes of samples after an engine has made them, and how fast the voice speaks, per second of audio."""

from __future__ import annotations

import asyncio

import numpy as np

from atelier.v1 import task_pb2
from atelier_engines.engine import Engine
from atelier_engines.media import Samples
from atelier_engines.speech import ENGINE as SPEECH
from atelier_engines.speech.config import SpeechConfig
from atelier_engines.task import AudioTask
from atelier_server.artifacts.audio.files import encode_audio
from atelier_server.artifacts.audio.finish import finish
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS, AudioFileFormat
from atelier_server.artifacts.audio.plan import Finishing
from bench.engines import time_work
from bench.figures import Figure, median
from tests.engines.audio_clips import clip

_SECONDS, _RATE = 10.0, 44100
_ROUNDS = 7
_FORMATS = (
    task_pb2.AUDIO_FORMAT_WAV,
    task_pb2.AUDIO_FORMAT_FLAC,
    task_pb2.AUDIO_FORMAT_OGG,
    task_pb2.AUDIO_FORMAT_OPUS,
    task_pb2.AUDIO_FORMAT_MP3,
)
_WORDS = "The keeper counted the waves, and wrote the number down before the lamp went out."


async def measure_output() -> list[Figure]:
    """CPU time for each second of audio: of finishing by what is asked for, and of each file format."""
    noise = _make_noise()
    plain = Finishing(sample_rate=_RATE, channels=2, seconds=_SECONDS)
    everything = Finishing(
        sample_rate=48000,
        channels=2,
        seconds=_SECONDS,
        high_pass_hz=40.0,
        fade_in_seconds=0.1,
        fade_out_seconds=0.5,
        loudness_lufs=-16.0,
    )
    return [
        await _measure_finishing("checks and length alone", noise, plain),
        await _measure_finishing("high-pass, 48 kHz, fades and loudness", noise, everything),
        *[await _measure_format(noise, AUDIO_FORMATS[number]) for number in _FORMATS],
    ]


async def measure_speech() -> list[Figure]:
    """Seconds of speech for each second of CPU time."""
    engine = SPEECH.create(SpeechConfig())
    await engine.start()
    try:
        rates = [await _measure_sentence(engine, index) for index in range(_ROUNDS)]
    finally:
        await engine.stop()
    return [
        Figure(name="speech: seconds of audio per CPU second", value=median(rates[1:]), unit="×")
    ]


async def _measure_sentence(engine: Engine, seed: int) -> float:
    wanted = AudioTask(
        prompt=_WORDS, duration_seconds=1.0, seed=seed, sample_rate=24000, channels=1
    )
    lengths: list[int] = []

    async def say() -> None:
        lengths.append(len(await clip(engine, wanted)))

    took = await time_work(say)
    return lengths[0] / 24000 / took.cpu


async def _measure_finishing(what: str, samples: Samples, plan: Finishing) -> Figure:
    times = [
        (await time_work(lambda: asyncio.to_thread(finish, samples, plan))).cpu
        for _ in range(_ROUNDS)
    ]
    return Figure(
        name=f"finishing per second of stereo: {what}",
        value=median(times[1:]) / _SECONDS * 1e3,
        unit="ms of CPU",
    )


async def _measure_format(samples: Samples, form: AudioFileFormat) -> Figure:
    if form.sample_rates and _RATE not in form.sample_rates:
        samples = Samples(array=samples.array, sample_rate=form.sample_rates[-1])
    times = [
        (await time_work(lambda: asyncio.to_thread(encode_audio, samples, form, None))).cpu
        for _ in range(_ROUNDS)
    ]
    seconds = len(samples.array) / samples.sample_rate
    return Figure(
        name=f"writing per second of stereo: {form.name}",
        value=median(times[1:]) / seconds * 1e3,
        unit="ms of CPU",
    )


def _make_noise() -> Samples:
    """Noise that becomes louder and quieter, always the same: what encoders find hardest."""
    random = np.random.default_rng(0)
    frames = round(_SECONDS * _RATE)
    swell = 0.2 + 0.1 * np.sin(np.arange(frames) / _RATE)
    noise = random.standard_normal((frames, 2)) * swell[:, np.newaxis] * 0.5
    return Samples(array=noise.clip(-1, 1).astype(np.float32), sample_rate=_RATE)
