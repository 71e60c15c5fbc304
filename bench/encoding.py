"""Time and size of image encoding: our encoders, and those of Pillow."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.media import Pixels, image_from_pixels, pixels_from_image
from atelier_engines.sketch.drawing import DrawnSource
from atelier_engines.task import ImageTask
from atelier_server.artifacts.encode import encode_lossy, encode_png
from bench.figures import Figure, median

Codec: TypeAlias = Callable[[Pixels], bytes]

_SHEET = Path(__file__).parent.parent / "models" / "tiny" / "contact-sheet.png"
_ROUNDS = {128: 101, 512: 21, 1024: 9}
_OURS, _DEFAULT, _FASTEST = "PNG", "Pillow's PNG", "Pillow's PNG, level 1"
_NAP_SECONDS = 0.0005
_WATCH_SECONDS = 2.0


async def measure() -> list[Figure]:
    """Every encoder on every image, in turns; then how long each delays other threads."""
    figures: list[Figure] = []
    for size, rounds in _ROUNDS.items():
        for kind, pixels in _make_images(size).items():
            figures += _compare(f"{size} px, {kind}", pixels, rounds)
    photo = _make_images(1024)["photo"]
    figures.append(_measure_delay("sleep", partial(time.sleep, _NAP_SECONDS)))
    figures += [_measure_delay(name, partial(codec, photo)) for name, codec in _codecs().items()]
    return figures


def _codecs() -> Mapping[str, Codec]:
    return {
        _OURS: partial(encode_png, texts={}),
        _DEFAULT: _encode_with_pillow,
        _FASTEST: partial(_encode_with_pillow, compress_level=1),
        "JPEG": partial(encode_lossy, form="JPEG", provenance=None),
        "WebP": partial(encode_lossy, form="WEBP", provenance=None),
        "AVIF": partial(encode_lossy, form="AVIF", provenance=None),
    }


def _encode_with_pillow(pixels: Pixels, **settings: int) -> bytes:
    file = io.BytesIO()
    image_from_pixels(pixels).save(file, "PNG", **settings)
    return file.getvalue()


def _compare(image_name: str, pixels: Pixels, rounds: int) -> list[Figure]:
    """Medians of time, sizes, and the ratios to Pillow's."""
    seconds: dict[str, list[float]] = {name: [] for name in _codecs()}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, codec in _codecs().items():
            start = time.perf_counter()
            data = codec(pixels)
            seconds[name].append(time.perf_counter() - start)
            sizes[name] = len(data)
    figures = []
    for name, taken in seconds.items():
        figures += [
            Figure(name=f"{image_name}: {name}", value=median(taken) * 1e3, unit="ms"),
            Figure(name=f"{image_name}: {name}", value=sizes[name] / 1024, unit="KiB"),
        ]
    for name in (_DEFAULT, _FASTEST):
        figures += [
            Figure(
                name=f"{image_name}: {name} / ours, time",
                value=_ratio(seconds[name], seconds[_OURS]),
                unit="×",
                bound="at least",
                target=1,
            ),
            Figure(
                name=f"{image_name}: ours / {name}, bytes",
                value=sizes[_OURS] / sizes[name],
                unit="×",
            ),
        ]
    return figures


def _ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The median, over rounds, of one against the other."""
    return median([a / b for a, b in zip(first, second, strict=True)])


def _measure_delay(name: str, work: Callable[[], object]) -> Figure:
    """How late another thread wakes up meanwhile, as the server's event loop would.

    A codec that lets go of Python's lock delays it no more than sleeping does; one that holds it, by the
    interpreter's switch interval of 5 ms.
    """
    late: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            start = time.perf_counter()
            time.sleep(_NAP_SECONDS)
            late.append(time.perf_counter() - start - _NAP_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    end = time.perf_counter() + _WATCH_SECONDS
    while time.perf_counter() < end:
        work()
    done.set()
    watcher.join()
    return Figure(
        name=f"1024 px, photo: delay of other threads, {name}", value=median(late) * 1e3, unit="ms"
    )


def _make_images(size: int) -> Mapping[str, Pixels]:
    """Images of the engines here, and one that compresses as badly as a photo."""
    return {
        "tiny": _tiny_image(size),
        "sketch": _sketch_image(size),
        "photo": _photo_like_image(size),
    }


def _tiny_image(size: int) -> Pixels:
    """Images that the tiny model made."""
    with Image.open(_SHEET) as sheet:
        return pixels_from_image(sheet.crop((0, 0, size, size)))


def _sketch_image(size: int) -> Pixels:
    task = ImageTask(prompt="a lighthouse at night", width=size, height=size, seeds=(3,))
    return pixels_from_image(DrawnSource().make_image(task, 3, None).image)


def _photo_like_image(size: int) -> Pixels:
    """Light, edges and colour whose spectra fall as those of photos do, and a sensor's noise.

    Source: amplitudes near 1/f, as D. J. Field found in photos of nature (JOSA A 4, 2379, 1987).
    """
    draw = np.random.default_rng(0)
    light = _noise_field(draw, size, 1.3)
    edges = np.sign(_noise_field(draw, size, 2.0)) / 2
    layers = [128 + 45 * (light + edges) + 18 * _noise_field(draw, size, 1.6) for _ in range(3)]
    image = np.stack(layers, axis=2) + draw.normal(0, 1.5, (size, size, 3))
    return Pixels(array=image.clip(0, 255).astype(np.uint8))


def _noise_field(draw: np.random.Generator, size: int, slope: float) -> NDArray[np.float64]:
    """Noise whose amplitudes fall by frequency to the power of `slope`; mean 0, deviation 1."""
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequencies[0, 0] = 1
    spectrum = np.fft.rfft2(draw.standard_normal((size, size))) / frequencies**slope
    field = np.fft.irfft2(spectrum, s=(size, size))
    standard: NDArray[np.float64] = (field - field.mean()) / field.std()
    return standard
