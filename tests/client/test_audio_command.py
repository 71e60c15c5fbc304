"""`atelier generate` for audio, as a user types it: every option has its effect, and what it shows is what was made."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from atelier_client.samples import Channel, decode_channel, draw_spectrogram, draw_waveform
from tests.artifacts.audio.ffmpeg import measure
from tests.client.atelier_command import atelier
from tests.conftest import RunningServer, launch


def files_in(folder: Path) -> list[str]:
    """Names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose audio is sketched."""
    running = launch(tmp_path_factory.mktemp("audio"), engines={"sketch": {"type": "sketch"}})
    yield running
    running.kill()


async def test_every_option_of_audio_has_its_effect(served: RunningServer, tmp_path: Path) -> None:
    """Format by suffix, length, rate, channels, loudness and fades; and a spectrogram beside it."""
    ended = await atelier(
        *("generate", "--audio", "gentle rain", "--seconds", "1.5", "--sample-rate", "48000"),
        *("--channels", "2", "--loudness", "-23", "--high-pass", "80"),
        *("--fade-in", "0.2", "--fade-out", "0.3", "--strict", "-o", "rain.flac"),
        *("--spectrogram", "views/rain.png", "--server", served.address),
        cwd=tmp_path,
    )
    assert ended.code == 0, ended.err
    with soundfile.SoundFile(tmp_path / "rain.flac") as made:
        assert (made.frames, made.samplerate, made.channels) == (72_000, 48000, 2)
        samples = made.read()
    assert abs(samples[0]).max() < 1e-3
    assert abs(samples[-1]).max() < 1e-3
    with Image.open(tmp_path / "views" / "rain.png") as drawn:
        assert (drawn.size, drawn.format) == ((800, 256), "PNG")


async def test_audio_begins_with_a_file(served: RunningServer, tmp_path: Path) -> None:
    """Of strength 0 it is that file, as long as it is, without --audio."""
    steps = np.linspace(-0.5, 0.5, 12_000)
    soundfile.write(tmp_path / "steps.flac", steps, 44100)
    ended = await atelier(
        *("generate", "rain", "--init-audio", "steps.flac", "--strength", "0", "-o", "out.wav"),
        *("--server", served.address),
        cwd=tmp_path,
    )
    assert ended.code == 0, ended.err
    made, rate = soundfile.read(tmp_path / "out.wav")
    assert (rate, len(made)) == (44100, 12_000)
    assert np.abs(made - steps).max() <= 2 / 2**15
    ended = await atelier(
        *("generate", "rain", "--init-audio", "steps.flac", "--continuation", "--seconds", "1"),
        *("-o", "longer.wav", "--server", served.address),
        cwd=tmp_path,
    )
    assert ended.code == 0, ended.err
    made, _ = soundfile.read(tmp_path / "longer.wav")
    assert len(made) == 44100
    assert np.abs(made[:7500] - steps[:7500]).max() <= 2 / 2**15


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a lamp", "--spectrogram", "a.png"), "--spectrogram is an option for audio"),
        (("--audio", "rain", "--spectrogram", "a.jpg"), "a name that ends in .png"),
        (("--audio", "rain", "--detach", "--spectrogram", "a.png"), "give no --spectrogram"),
        (("a lamp", "--loudness", "-16"), "--loudness is an option for audio: add --audio"),
        (("--speech", "good morning"), "no engine of this server speaks"),
        (("--audio", "rain", "--loop", "--fade-in", "1"), "seamless_loop cannot be used"),
        (("rain", "--init-audio", "no.wav"), "no.wav' does not exist"),
    ],
)
async def test_what_cannot_be_is_refused(
    served: RunningServer, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """With what to change; nothing is written."""
    ended = await atelier("generate", *arguments, "--server", served.address, cwd=tmp_path)
    assert ended.code != 0
    assert words in " ".join(ended.err.split())
    assert files_in(tmp_path) == []


async def test_an_engine_that_speaks_is_found(tmp_path: Path) -> None:
    """A real voice is as loud as it is asked to be, to half a unit by ffmpeg; its true peak is at most -1 dBTP."""
    pytest.importorskip("hibari")
    engines = {"sketch": {"type": "sketch"}, "voice": {"type": "speech"}}
    running = launch(tmp_path, engines=engines)
    try:
        ended = await atelier(
            *("generate", "--speech", "The rain has stopped, and the birds are back."),
            *("--loudness", "-24", "-o", "voice.flac", "--server", running.address),
            cwd=tmp_path,
        )
    finally:
        running.kill()
    assert ended.code == 0, ended.err
    loudness, peak = measure(tmp_path / "voice.flac")
    assert abs(loudness + 24) <= 0.5
    assert peak <= -1.0


def tone(hertz: float, rate: int = 8000) -> Channel:
    """A second that is loud in its second half alone."""
    seconds = np.arange(rate) / rate
    samples = np.sin(2 * np.pi * hertz * seconds) * np.where(seconds < 0.5, 0.1, 0.8)
    return Channel(samples.tolist(), rate)


def test_a_waveform_shows_peaks_over_time() -> None:
    """In as many characters as there is room for; of few samples, few."""
    assert draw_waveform(tone(200), 10) == "▂▂▂▂▂█████"
    assert len(draw_waveform(Channel([0.5, 0.1], 8000), 64)) == 2
    assert draw_waveform(Channel([], 8000), 64) == ""
    assert draw_waveform(Channel([0.0] * 100, 8000), 3) == "▁▁▁"


def test_a_spectrogram_shows_octaves_over_time() -> None:
    """A tone is a bright row, at its height; louder where it is louder. The shortest audio has one, too."""
    rows = []
    for hertz in (125, 1000):
        with Image.open(io.BytesIO(draw_spectrogram(tone(hertz)))) as drawn:
            grey = np.asarray(drawn).astype(int)
        row = int(grey[:, 600].argmax())
        assert grey[row, 600] > grey[row, 100]
        rows.append(row)
    octave = 255 / np.log2(512)
    assert abs((rows[0] - rows[1]) - 3 * octave) < 8
    assert draw_spectrogram(Channel([0.5], 8000)).startswith(b"\x89PNG")


def test_samples_of_wav_need_no_package() -> None:
    """Those of the first channel; other files need soundfile."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(2)
        written.setsampwidth(2)
        written.setframerate(8000)
        written.writeframes(np.array([[0, 1], [16384, 2], [-32768, 3]], "<i2").tobytes())
    found = decode_channel(file.getvalue())
    assert (list(found.samples), found.sample_rate) == ([0.0, 0.5, -1.0], 8000)
    flac = io.BytesIO()
    soundfile.write(flac, np.array([[0.25, 0], [0.5, 0]]), 16000, format="FLAC")
    found = decode_channel(flac.getvalue())
    assert np.allclose(found.samples, [0.25, 0.5], atol=1e-4)
