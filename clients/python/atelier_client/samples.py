"""Reads the samples of audio files, and shows them: as a line of text, and as a spectrogram."""

from __future__ import annotations

import array
import io
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from atelier_client.errors import MissingPackageError

_BLOCKS = "▁▂▃▄▅▆▇█"
_FULL_SCALE = 32768
_BYTES = 2
_WINDOW = 1024
_COLUMNS, _ROWS = 800, 256
_FLOOR_DB, _RANGE_DB = -50.0, 90.0


@dataclass(frozen=True, slots=True)
class Channel:
    """The first channel of some audio."""

    samples: Sequence[float]
    """-1 to 1."""
    sample_rate: int
    """Hertz."""


def decode_channel(data: bytes) -> Channel:
    """The first channel of a 16-bit WAV file; of another one with soundfile.

    Raises:
        MissingPackageError: soundfile is not installed.
    """
    if data.startswith(b"RIFF"):
        with wave.open(io.BytesIO(data)) as file:
            if file.getsampwidth() == _BYTES:
                found = array.array("h", file.readframes(file.getnframes()))
                if sys.byteorder == "big":
                    found.byteswap()
                first = found[:: file.getnchannels()]
                return Channel([value / _FULL_SCALE for value in first], file.getframerate())
    try:
        import soundfile  # noqa: PLC0415 - comes with the server
    except ImportError as error:
        message = "to decode audio other than 16-bit WAV: pip install soundfile"
        raise MissingPackageError(message) from error
    samples, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    return Channel(samples[:, 0].tolist(), rate)


def draw_waveform(channel: Channel, columns: int) -> str:
    """The peaks over time, in one line of so many characters; fewer if there are fewer samples."""
    samples = channel.samples
    count = min(columns, len(samples))
    bounds = [len(samples) * at // count for at in range(count + 1)] if count else []
    peaks = [max(abs(value) for value in samples[low:high]) for low, high in pairwise(bounds)]
    top = max(peaks, default=0.0) or 1.0
    return "".join(_BLOCKS[min(7, int(peak / top * 8))] for peak in peaks)


def draw_spectrogram(channel: Channel) -> bytes:
    """A PNG of 800 x 256 pixels: time to the right, octaves upwards from rate / 1024 to rate / 2, in 90 dB of grey.

    Raises:
        MissingPackageError: NumPy or Pillow is not installed.
    """
    try:
        import numpy as np  # noqa: PLC0415 - an extra
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingPackageError(
            "for spectrograms: pip install 'atelier-client[images]'"
        ) from error
    samples = np.asarray(channel.samples, np.float64)
    samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    starts = np.linspace(0, len(samples) - _WINDOW, _COLUMNS).astype(int)
    window = np.hanning(_WINDOW)
    power = [np.abs(np.fft.rfft(window * samples[at : at + _WINDOW])) for at in starts]
    bins = np.geomspace(1, _WINDOW // 2, _ROWS).astype(int)
    decibels = 20 * np.log10(np.stack(power, axis=1)[bins][::-1] + 1e-5)
    grey = (np.clip((decibels - _FLOOR_DB) / _RANGE_DB, 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()
