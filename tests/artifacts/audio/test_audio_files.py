"""Audio files as other programs read them: exact lengths, rates, channels and tags, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from atelier.v1 import task_pb2
from atelier.v1.generation_pb2 import Recipe
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask
from atelier_server.artifacts.audio.files import AI_MARK, encode_audio
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS
from atelier_server.artifacts.provenance import Provenance, build_provenance
from tests.artifacts.audio.ffmpeg import SOX, ask_sox, hear

FORMATS = {
    "wav": task_pb2.AUDIO_FORMAT_WAV,
    "flac": task_pb2.AUDIO_FORMAT_FLAC,
    "ogg": task_pb2.AUDIO_FORMAT_OGG,
    "opus": task_pb2.AUDIO_FORMAT_OPUS,
    "mp3": task_pb2.AUDIO_FORMAT_MP3,
}
CODECS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "ogg": "vorbis",
    "opus": "opus",
    "mp3": "mp3",
}
MARGINS = {"wav": 6e-5, "flac": 6e-5, "ogg": 0.03, "opus": 0.06, "mp3": 0.03}
"""Mean error of a tone."""


def tone(samples: int, rate: int = 48000, channels: int = 2) -> Samples:
    """440 Hz in the first channel, an octave higher in the second."""
    seconds = np.arange(samples)[:, None] / rate
    hertz = 440.0 * np.array([[1, 2]])[:, :channels]
    return Samples(
        array=(0.5 * np.sin(2 * np.pi * hertz * seconds)).astype(np.float32), sample_rate=rate
    )


def write(folder: Path, suffix: str, samples: Samples, known: Provenance | None = None) -> Path:
    """A file of the samples."""
    path = folder / f"sound.{suffix}"
    path.write_bytes(encode_audio(samples, AUDIO_FORMATS[FORMATS[suffix]], known).data)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_has_the_exact_length(tmp_path: Path, suffix: str) -> None:
    """From half a second to thirty, odd ones too, as ffmpeg decodes it; in time, and sounding as it did."""
    for samples in (24_000, 24_001, 48_001, 350_399, 1_440_000):
        given = tone(samples)
        heard = hear(write(tmp_path, suffix, given))
        assert (heard.sample_rate, heard.codec) == (48000, CODECS[suffix])
        assert heard.array.shape == given.array.shape
        assert np.abs(heard.array - given.array).mean() < MARGINS[suffix]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_rate_of_a_format_can_be_written(tmp_path: Path, suffix: str) -> None:
    """With one channel and with two."""
    for rate in AUDIO_FORMATS[FORMATS[suffix]].sample_rates or (8000, 22050, 96000, 192000):
        for channels in (1, 2):
            with soundfile.SoundFile(
                write(tmp_path, suffix, tone(rate, rate, channels))
            ) as written:
                assert (written.samplerate, written.channels, written.frames) == (
                    rate,
                    channels,
                    rate,
                )


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.skipif(SOX is None, reason="sox is not installed")
def test_sox_opens_every_format_but_opus(tmp_path: Path, suffix: str) -> None:
    """With the right rate and channels; it reads no length of MP3 that is exact."""
    path = write(tmp_path, suffix, tone(44_101, 44100))
    told = {option: ask_sox(path, option) for option in ("-r", "-c", "-s")}
    assert (told["-r"], told["-c"]) == ("44100", "2")
    assert suffix == "mp3" or told["-s"] == "44101"


@pytest.mark.parametrize(
    "words", ["gentle rain", "Regen, дождь, 雨 🌧\n= ; # \\ é", "雨" * 8192, "\0"]
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_files_say_how_they_were_made(tmp_path: Path, suffix: str, words: str) -> None:
    """By what was it made, from which words and seed, and that no one recorded it: in the comment, as JSON."""
    task = AudioTask(
        prompt=words, duration_seconds=1.5, seed=2**63 - 1, sample_rate=48000, channels=1
    )
    known = build_provenance("tango", Recipe(model="small"), task, task.seed)
    heard = hear(write(tmp_path, suffix, tone(4800, channels=1), known))
    comment = heard.tags["comment"]
    assert comment.startswith(AI_MARK)
    assert json.loads(comment.removeprefix(AI_MARK)) == {
        "engine": "tango",
        "prompt": words,
        "seed": 2**63 - 1,
        "duration": 1.5,
        "model": "small",
    }
    assert heard.tags.get("title", "") == words.replace("\0", "")[:200]
    assert heard.tags["artist"] == "tango (Atelier)"


@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_samples_make_equal_files(tmp_path: Path, suffix: str) -> None:
    """Libsndfile alone draws the serial number of an Ogg stream at random; other samples have another number."""
    first, again = (write(tmp_path, suffix, tone(30_000)).read_bytes() for _ in range(2))
    assert first == again
    if suffix in {"ogg", "opus"}:
        other = write(tmp_path, suffix, tone(30_001)).read_bytes()
        assert first[14:18] != other[14:18]
