"""Decodes images and audio that callers send, which may be anything, in threads and within a memory budget."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL, DecodingBudget
from atelier_engines.decoding.header import ImageHeader, UndecodableError, read_header
from atelier_engines.decoding.pixels import Background, Mode, decode_image
from atelier_engines.media import Pixels, Samples
from atelier_engines.threads import result_from_thread
from atelier_server.artifacts.audio import reading
from atelier_server.artifacts.audio.reading import AudioHeader
from atelier_server.malloc import trim_malloc
from atelier_server.metrics import DECODING_BYTES

ResultT = TypeVar("ResultT")

DECODED_BYTES_PER_PIXEL = 4
"""Memory for each pixel of a decoded image, as RGB and as grey."""

_BYTES_PER_SAMPLE = 4
_FITTED_BYTES_PER_SECOND = 48000 * 2 * _BYTES_PER_SAMPLE
_FITTED_COPIES = 2  # while it is resampled
_MAX_THREADS = 4
_TRIM_BYTES = 2**25  # reserved at once, from which the memory is given back


class Decoder:
    """Reads headers and decodes images, on threads of its own: engines may block those of asyncio's executor."""

    def __init__(self, *, max_pixels: int, max_bytes: int) -> None:
        """Reject images of more than `max_pixels`; use at most `max_bytes` for all that is being decoded."""
        self.max_pixels = max_pixels
        self.budget = DecodingBudget(max_bytes, on_idle=self._trim)
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        DECODING_BYTES.set_function(lambda: self.budget.reserved_bytes)

    async def read_header(self, data: bytes) -> ImageHeader:
        """The header of an image file.

        Raises:
            UndecodableError: not a PNG, JPEG, WebP or AVIF file, truncated, or more than the maximum of pixels.
        """
        header = await self._run(partial(read_header, data))
        if header.pixels > self.max_pixels:
            width, height = header.decoded_size
            msg = f"an image may have at most {self.max_pixels} pixels, not {width} x {height}"
            raise UndecodableError(msg)
        return header

    async def decode(
        self, data: bytes, modes: Sequence[Mode], background: Background = "white"
    ) -> Mapping[Mode, Pixels]:
        """The image in each of the modes, as `decode_image`; the caller has reserved the memory.

        Raises:
            UndecodableError: as `read_header`, or the image is damaged.
        """
        header = await self.read_header(data)
        return await self._run(partial(decode_image, data, header, modes, background))

    async def read_audio_header(self, data: bytes) -> AudioHeader:
        """As `reading.read_header`.

        Raises:
            UndecodableError: as there.
        """
        return await self._run(partial(reading.read_header, data))

    async def decode_audio(self, data: bytes) -> Samples:
        """The audio of a file; the caller has reserved the memory.

        Raises:
            UndecodableError: as `read_audio_header`.
        """
        return await self._run(lambda: reading.decode(data, reading.read_header(data)))

    def close(self) -> None:
        """Accept nothing more; what is being decoded is finished."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        return await result_from_thread(work, executor=self._threads)

    def _trim(self, most_bytes: int) -> None:
        if most_bytes >= _TRIM_BYTES:
            with suppress(RuntimeError):  # closed meanwhile
                self._threads.submit(trim_malloc)


def count_bytes(pixels: Sequence[int], file_bytes: Sequence[int]) -> int:
    """Memory to decode images of so many pixels, from files of so many bytes, one after the other, keeping each."""
    extra = DECODING_BYTES_PER_PIXEL - DECODED_BYTES_PER_PIXEL
    most = max((count * extra + size for count, size in zip(pixels, file_bytes, strict=True)))
    return count_decoded_bytes(pixels) + most


def count_audio_bytes(header: AudioHeader, file_bytes: int) -> int:
    """Memory to decode audio from a file of so many bytes, and to fit it to a task."""
    decoded = header.samples * header.channels * _BYTES_PER_SAMPLE
    return decoded + file_bytes + _FITTED_COPIES * round(header.seconds * _FITTED_BYTES_PER_SECOND)


def count_decoded_bytes(pixels: Sequence[int]) -> int:
    """Memory of decoded images of so many pixels."""
    return sum(pixels) * DECODED_BYTES_PER_PIXEL
