"""Finished audio as ffmpeg measures it: its loudness, its true peak, its length; and loops without a seam."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
from numpy.typing import NDArray

from atelier.v1 import task_pb2
from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Samples
from atelier_server.artifacts.audio.files import encode_audio
from atelier_server.artifacts.audio.finish import Finished, finish
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS
from atelier_server.artifacts.audio.loudness import measure_loudness
from atelier_server.artifacts.audio.plan import Finishing
from tests.artifacts.audio.ffmpeg import measure

Floats = NDArray[np.float32]


def noise(
    seconds: float, rate: int, channels: int, *, level: float = 0.05, seed: int = 0
) -> Floats:
    """Low noise that comes and goes, and a high tone."""
    count = round(seconds * rate)
    random = np.random.default_rng(seed)
    raw = np.cumsum(random.normal(0, 1, (count, channels)), axis=0)
    low = raw - np.linspace(raw[0], raw[-1], count)
    swell = 0.6 + 0.4 * np.sin(np.arange(count) / rate * 2.1)[:, None]
    tone = np.sin(np.arange(count)[:, None] / rate * 2 * np.pi * 1234)
    made: Floats = (level * (low / np.abs(low).max() * swell + 0.3 * tone)).astype(np.float32)
    return made


def material(rate: int, channels: int) -> dict[str, Floats]:
    """Audio of several kinds, quiet and loud."""
    bursts = noise(3.0, rate, channels, level=0.5)
    bursts[np.arange(len(bursts)) // (rate // 4) % 4 != 0] *= 0.001
    return {
        "hum": noise(3.0, rate, channels),
        "faint": noise(3.0, rate, channels, level=0.0005),
        "bursts": bursts,
        "short": noise(0.4, rate, channels),
    }


def run(array: Floats, rate: int, plan: Finishing) -> Finished:
    """Finish a copy."""
    return finish(Samples(array=array.copy(), sample_rate=rate), plan)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (48000, 2), (16000, 2)])
@pytest.mark.parametrize("target", [-16.0, -23.0])
def test_loudness_is_within_half_a_unit_of_the_target(
    tmp_path: Path, rate: int, channels: int, target: float
) -> None:
    """By ffmpeg's ebur128 on the file; its true peak is at most -1 dBTP, and what that limits says how loud it is."""
    for name, array in material(rate, channels).items():
        plan = Finishing(
            sample_rate=48000, channels=2, seconds=len(array) / rate, loudness_lufs=target
        )
        made = run(array, rate, plan)
        path = tmp_path / "audio.flac"
        flac = AUDIO_FORMATS[task_pb2.AUDIO_FORMAT_FLAC]
        path.write_bytes(encode_audio(made.samples, flac, None).data)
        loudness, peak = measure(path)
        expected = target if made.loudness_lufs is None else made.loudness_lufs
        assert abs(loudness - expected) <= 0.5, name
        assert peak <= -1.0, name
        if made.loudness_lufs is not None:
            assert peak >= -1.2, name
            assert expected < target


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_loudness_is_what_pyloudnorm_measures(rate: int) -> None:
    """In one channel and in two."""
    for channels in (1, 2):
        array = noise(2.0, rate, channels)
        expected = pyloudnorm.Meter(rate).integrated_loudness(array.astype(np.float64))
        assert abs(measure_loudness(array, rate).integrate() - expected) < 0.2


def seam(array: Floats) -> float:
    """How much larger the second difference is over the seam than the 99.9th percentile inside."""
    bend = np.abs(np.diff(np.concatenate([array, array[:2]]), n=2, axis=0))
    return float((bend[-2:].max(axis=0) / np.quantile(bend[:-2], 0.999, axis=0)).max())


def leak(loop: Samples, hertz: float) -> float:
    """Share of what is above that frequency in a loop that has nothing there: what a seam adds."""
    spectrum = np.abs(np.fft.rfft(loop.array[:, 0].astype(np.float64)))
    edge = round(1.05 * hertz * len(loop.array) / loop.sample_rate)
    return float(np.linalg.norm(spectrum[edge:]) / np.linalg.norm(spectrum))


@pytest.mark.parametrize("rates", [(44100, 44100), (44100, 48000), (16000, 44100)])
def test_a_crossfaded_loop_has_no_seam(rates: tuple[int, int]) -> None:
    """Over its end it bends no more than inside, and it is as loud at the crossfade as elsewhere."""
    made, target = rates
    plan = Finishing(
        sample_rate=target, channels=2, seconds=4.0, crossfade_seconds=1.0, high_pass_hz=40.0
    )
    random = np.random.default_rng(1)
    array = (0.1 * random.normal(0, 1, (made * 5, 2))).astype(np.float32)
    smooth = np.stack(
        [np.convolve(array[:, at], np.hanning(80) / 20, "same") for at in (0, 1)], axis=1
    )
    looped = run(smooth.astype(np.float32), made, plan).samples.array
    assert looped.shape == (4 * target, 2)
    assert seam(looped) <= 1.5
    assert seam(looped[: 3 * target]) > 3
    power = (looped.astype(np.float64) ** 2).reshape(40, -1).mean(axis=1)
    assert abs(10 * np.log10(power[:10].mean() / power[10:].mean())) < 0.5


@pytest.mark.parametrize("target", [44100, 48000, 22050])
def test_a_loop_of_the_engine_stays_one(target: int) -> None:
    """Filtered and resampled as what has no beginning and no end: a tenth of the seam at the most."""
    count = 44100
    spectrum = np.zeros(count // 2 + 1, complex)
    random = np.random.default_rng(2)
    spectrum[2:8000] = random.normal(0, 1, 7998) + 1j * random.normal(0, 1, 7998)
    wave = np.fft.irfft(spectrum, count)
    array = (0.5 * wave / np.abs(wave).max()).astype(np.float32)[:, None]
    plan = Finishing(sample_rate=target, channels=1, seconds=1.0, loops=True, high_pass_hz=100.0)
    there = leak(run(array, 44100, plan).samples, 8000)
    broken = Finishing(sample_rate=target, channels=1, seconds=1.0, high_pass_hz=100.0)
    assert there < leak(run(array, 44100, broken).samples, 8000) / 10


def test_a_high_pass_removes_what_is_below() -> None:
    """Three decibels at its frequency, twelve more each octave below, and nothing above."""
    for hertz, expected in ((25, -24.1), (50, -12.3), (100, -3.0), (800, 0.0)):
        wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(88200) / 44100)
        plan = Finishing(sample_rate=44100, channels=1, high_pass_hz=100.0)
        made = run(wave.astype(np.float32)[:, None], 44100, plan).samples.array[44100:]
        assert abs(20 * np.log10(np.abs(made).max() / 0.5) - expected) < 0.3


def test_fades_begin_and_end_in_silence() -> None:
    """And are half way in their middle."""
    plan = Finishing(
        sample_rate=1000, channels=1, seconds=1.0, fade_in_seconds=0.2, fade_out_seconds=0.4
    )
    made = run(np.full((1000, 1), 0.5, np.float32), 1000, plan).samples.array[:, 0]
    assert (made[0], made[-1]) == (0, 0)
    assert np.allclose(made[[100, 300, 500, 799]], [0.25, 0.5, 0.5, 0.25], atol=0.005)


def test_channels_are_mixed_and_doubled() -> None:
    """The mean in one, or the same in both."""
    stereo = noise(0.5, 8000, 2)
    mono = run(stereo, 8000, Finishing(sample_rate=8000, channels=1)).samples.array
    assert np.allclose(mono[:, 0], stereo.mean(axis=1), atol=1e-6)
    both = run(mono, 8000, Finishing(sample_rate=8000, channels=2)).samples.array
    assert np.array_equal(both, np.repeat(mono, 2, axis=1))


def test_what_needs_nothing_is_not_touched() -> None:
    """Not one sample, nor copied."""
    samples = Samples(array=noise(0.5, 8000, 2), sample_rate=8000)
    plan = Finishing(sample_rate=8000, channels=2, seconds=0.5)
    assert np.shares_memory(finish(samples, plan).samples.array, samples.array)


def test_the_engines_own_array_is_never_changed() -> None:
    """A cache may hold it."""
    array = noise(1.0, 8000, 1, level=0.5)
    before = array.copy()
    plan = Finishing(
        sample_rate=8000,
        channels=1,
        seconds=1.0,
        high_pass_hz=50.0,
        fade_in_seconds=0.1,
        loudness_lufs=-20.0,
    )
    finish(Samples(array=array, sample_rate=8000), plan)
    assert np.array_equal(array, before)


def test_samples_above_full_scale_are_lowered() -> None:
    """Until the true peak is -1 dBTP; a few decibels, which are told."""
    made = run(noise(1.0, 44100, 1, level=1.2), 44100, Finishing(sample_rate=44100, channels=1))
    assert 0.5 < made.lowered_db < 6
    assert np.abs(made.samples.array).max() <= 10 ** (-1 / 20)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((8000, 1), np.float32), "silence"),
        (np.full((8000, 2), 5e-5, np.float32), "silence"),
        (np.full((8000, 1), np.nan, np.float32), "no numbers"),
        (np.full((8000, 1), np.inf, np.float32), "no numbers"),
        (np.clip(9 * noise(1.0, 8000, 1, level=1.0), -1, 1), "clipped"),
        (noise(0.8, 8000, 1), "0.8 seconds of audio instead of 1"),
        (np.zeros((0, 1), np.float32), "no audio"),
    ],
)
def test_what_is_no_audio_is_refused(array: Floats, reason: str) -> None:
    """Silence, numbers that are none, clipping, and too little."""
    plan = Finishing(sample_rate=8000, channels=1, seconds=1.0)
    with pytest.raises(EngineFailedError, match=reason):
        run(array, 8000, plan)


def test_a_few_missing_samples_are_silence() -> None:
    """Exactly as many as were asked for come out."""
    made = run(noise(0.95, 8000, 1), 8000, Finishing(sample_rate=8000, channels=1, seconds=1.0))
    assert made.samples.array.shape == (8000, 1)


def test_finishing_takes_no_more_than_three_copies() -> None:
    """Of a minute of stereo, resampled, filtered and set to a loudness."""
    array = noise(60.0, 24000, 2)
    plan = Finishing(
        sample_rate=24000, channels=2, seconds=60.0, high_pass_hz=30.0, loudness_lufs=-20.0
    )
    run(array[:24000], 24000, Finishing(sample_rate=24000, channels=2, loudness_lufs=-20.0))
    tracemalloc.start()
    finish(Samples(array=array, sample_rate=24000), plan)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * array.nbytes
