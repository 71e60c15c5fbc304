"""Draws the spectrograms of prompts, as a server that runs makes them.

python scripts/audio_sheet.py [--server ADDRESS] [--engine NAME] [--output FILE] [PROMPT ...]

Frequencies are from 43 Hz at the bottom to 22 kHz at the top, in octaves; levels from -50 to 40 dB. Without prompts the
names that `sketch` knows are drawn, and a few scenes.
"""

from __future__ import annotations

import argparse
import io
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from atelier_client import AudioTask, Client

_SCENES = ("gentle rain and a distant bell", "loud wind, waves and birds", "a fire, crickets")
_SECONDS = 6.0
_RATE = 44100
_WINDOW = 1024
_WIDTH, _HEIGHT, _MARGIN = 300, 140, 20
_COLUMNS = 4
_FLOOR_DB, _RANGE_DB = -50.0, 90.0


def draw_spectrogram(samples: NDArray[np.float64]) -> Image.Image:
    """Grey levels over time and octaves; (samples,)."""
    hop = max(1, (len(samples) - _WINDOW) // _WIDTH)
    window = np.hanning(_WINDOW)
    columns = [
        np.abs(np.fft.rfft(window * samples[at * hop : at * hop + _WINDOW])) for at in range(_WIDTH)
    ]
    bins = np.geomspace(1, _WINDOW // 2, _HEIGHT).astype(int)
    decibels = 20 * np.log10(np.stack(columns, axis=1)[bins][::-1] + 1e-5)
    grey = np.clip((decibels - _FLOOR_DB) / _RANGE_DB, 0, 1)
    return Image.fromarray((grey * 255).astype(np.uint8))


def generate(client: Client, prompt: str, engine: str) -> NDArray[np.float64]:
    """The first channel of the audio."""
    task = AudioTask(prompt=prompt, duration_seconds=_SECONDS, sample_rate=_RATE, seed=7)
    made = client.generate(task, engine=engine).audio[0]
    with wave.open(io.BytesIO(made.data)) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return frames.reshape(-1, file.getnchannels())[:, 0] / 32768


def main() -> None:
    """Draw them all on one sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", nargs="*", metavar="PROMPT")
    parser.add_argument("--server", default="localhost:50051")
    parser.add_argument("--engine", default="sketch")
    parser.add_argument("--output", type=Path, default=Path("out/audio.png"))
    given = parser.parse_args()
    prompts = given.prompts or [*_list_names(), *_SCENES]
    rows = -(-len(prompts) // _COLUMNS)
    size = (_COLUMNS * (_WIDTH + _MARGIN), rows * (_HEIGHT + 2 * _MARGIN))
    sheet = Image.new("L", size, 30)
    draw = ImageDraw.Draw(sheet)
    with Client(given.server) as client:
        for index, prompt in enumerate(prompts):
            column, row = index % _COLUMNS, index // _COLUMNS
            place = (
                column * (_WIDTH + _MARGIN) + _MARGIN // 2,
                row * (_HEIGHT + 2 * _MARGIN) + _MARGIN,
            )
            sheet.paste(draw_spectrogram(generate(client, prompt, given.engine)), place)
            draw.text((place[0], place[1] - 14), prompt, fill=255)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(given.output)


def _list_names() -> list[str]:
    from atelier_engines.sketch.audio.words import SYNONYMS  # noqa: PLC0415 (only without prompts)

    return list(SYNONYMS)


if __name__ == "__main__":
    main()
