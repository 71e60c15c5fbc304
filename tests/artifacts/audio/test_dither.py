"""Files of 16 bits have dither where they hold less than the engine made, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from atelier.v1 import task_pb2
from atelier_engines.media import Samples
from atelier_server.artifacts.audio.files import encode_audio
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS

STEP = 1 / 2**15
BITS_16 = [task_pb2.AUDIO_FORMAT_WAV, task_pb2.AUDIO_FORMAT_FLAC]


def written(array: NDArray[np.floating], form: task_pb2.AudioFormat.ValueType) -> NDArray[np.int16]:
    """The samples in the file of some."""
    samples = Samples(array=array.astype(np.float32), sample_rate=44100)
    read: NDArray[np.int16]
    read, _ = soundfile.read(
        io.BytesIO(encode_audio(samples, AUDIO_FORMATS[form], None).data),
        dtype="int16",
        always_2d=True,
    )
    assert read.shape == array.shape
    return read


def tone(steps: float, count: int = 200_000) -> NDArray[np.float64]:
    """1 kHz whose peak is so many steps."""
    return steps * STEP * np.sin(2 * np.pi * 1000 * np.arange(count)[:, None] / 44100)


@pytest.mark.parametrize("form", BITS_16)
def test_a_tone_below_one_step_is_still_there(form: task_pb2.AudioFormat.ValueType) -> None:
    """Its level is right, and the error is noise of half a step that has nothing to do with it."""
    made = tone(0.4)
    found = written(made, form)[:, 0].astype(float)
    wave = made[:, 0] / STEP
    assert found @ wave / (wave @ wave) == pytest.approx(1.0, abs=0.02)
    error = found - wave
    assert error.std() == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(error[1:], error[:-1])[0, 1]) < 0.01


@pytest.mark.parametrize("form", BITS_16)
def test_what_16_bits_hold_stays_as_it_is(form: task_pb2.AudioFormat.ValueType) -> None:
    """Full scale on both sides included."""
    held = np.random.default_rng(3).integers(-(2**15), 2**15, (70_000, 2))
    held[:2] = [[-(2**15), 2**15 - 1]] * 2
    assert np.array_equal(written(held * STEP, form), held)
    assert written(np.full((10, 1), 1.0), form).max() == 2**15 - 1


def test_silence_stays_silent_and_equal_samples_give_equal_ones() -> None:
    """Before, after and in sound; other samples get other noise."""
    made = tone(3000.3)
    made[10_000:90_000] = 0
    first, again = (written(made, task_pb2.AUDIO_FORMAT_WAV) for _ in range(2))
    assert np.array_equal(first, again)
    assert not first[10_000:90_000].any()
    other = made.copy()
    other[0] += 10 * STEP
    changed = written(other, task_pb2.AUDIO_FORMAT_WAV) != first
    assert changed[1:].mean() > 0.2
