"""Encodes images and audio as files, with their provenance, on threads of its own.

PNG files are written quickly: filters chosen by NumPy, deflate by ISA-L. JPEG, WebP and AVIF files, by Pillow, have
their provenance in EXIF and XMP.
"""

from __future__ import annotations

import asyncio
import io
import os
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias, assert_never

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from atelier.v1 import task_pb2
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.decoding.color_profiles import srgb_profile
from atelier_engines.decoding.header import read_header
from atelier_engines.decoding.pixels import decode_image
from atelier_engines.media import (
    Encoded,
    Media,
    Pixels,
    Samples,
    image_from_pixels,
)
from atelier_server.artifacts.audio.files import encode_audio
from atelier_server.artifacts.audio.files_of_engines import decode_unfinished
from atelier_server.artifacts.audio.finish import Finished, finish
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS
from atelier_server.artifacts.audio.plan import Finishing
from atelier_server.artifacts.audio.reading import AudioHeader
from atelier_server.artifacts.metadata import build_exif, build_xmp
from atelier_server.artifacts.provenance import Provenance

LossyFormat: TypeAlias = Literal["JPEG", "WEBP", "AVIF"]

_IMAGE_FORMATS: dict[task_pb2.ImageFormat.ValueType, Literal["PNG"] | LossyFormat] = {
    task_pb2.IMAGE_FORMAT_UNSPECIFIED: "PNG",
    task_pb2.IMAGE_FORMAT_PNG: "PNG",
    task_pb2.IMAGE_FORMAT_WEBP: "WEBP",
    task_pb2.IMAGE_FORMAT_JPEG: "JPEG",
    task_pb2.IMAGE_FORMAT_AVIF: "AVIF",
}
_Bytes: TypeAlias = NDArray[np.uint8]
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPES = {1: 0, 3: 2}  # by number of channels: grey, RGB
_PNG_BITS = 8
_PERCEPTUAL = b"\0"  # rendering intent of the sRGB chunk
_SUB, _UP = 1, 2  # filter types of PNG
# ISA-L's levels 0 to 3 take the same time within a few per cent; 0 makes files a third larger, 2 and 3 do not
# make them smaller. `make bench` compares with Pillow.
_PNG_LEVEL = 1
_SAMPLE_STRIDE = 7  # every seventh byte is used to choose the filter of a row; coprime to 3, so all colours count

# Chosen for images that are inspected and edited: the error is not visible side by side.
# Subsampled colour (4:2:0) blurs red on white: at 1024 px the worst 32 px of a test sheet have a PSNR of 27 dB,
# against 33 dB with full colour, for a third more bytes. WebP has no other mode.
_LOSSY_SETTINGS: dict[LossyFormat, dict[str, int | str]] = {
    "JPEG": {"quality": 92},
    # Method 2 takes a third more time than 0 for up to 30 % fewer bytes, half the time of the default for 3 % more.
    "WEBP": {"quality": 92, "method": 2},
    # Speed 8 takes four times as long for 1 to 20 % fewer bytes, 6 eight times or more; 10 is no
    # faster.
    # One thread: the number of threads changes the tiles, and so the bytes; other images use the other cores.
    "AVIF": {"quality": 90, "speed": 9, "max_threads": 1},
}
_LOSSY_COLOUR = {"JPEG": "4:4:4", "AVIF": "4:4:4"}
_JPEG_EXIF_BYTES = 65_533  # what a segment of a JPEG file holds
_JPEG_XMP_BYTES = _JPEG_EXIF_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")


class Encoder:
    """Encodes the media that engines return.

    It has one thread per core of its own, because engines may block all threads of asyncio's executor.
    All codecs but JPEG release Python's lock; JPEG takes 4 ms per megapixel and yields every few milliseconds.
    """

    def __init__(self, *, metadata: bool) -> None:
        """With `metadata`, files contain their provenance."""
        self._metadata = metadata
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="encode")

    async def encode(
        self, media: Media, request: GenerateRequest, describe: Callable[[], Provenance | None]
    ) -> Encoded:
        """The media in the file format of the request; unchanged if it is a file of that format already."""
        ready = _keep_encoded(media, request)
        if ready is not None:
            # Not one byte is changed, metadata or not: the service may have signed its file (C2PA), and any
            # change would make the signature invalid.
            return ready
        known = describe() if self._metadata else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _encode, media, request, known)

    async def finish(self, media: Samples, plan: Finishing) -> Finished:
        """The audio as it was decided.

        Raises:
            EngineFailedError: as `finish`.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, finish, media, plan)

    async def decode_unfinished(
        self, media: Encoded, plan: Finishing, asked: task_pb2.AudioFormat.ValueType
    ) -> Samples | AudioHeader:
        """As `files_of_engines.decode_unfinished`.

        Raises:
            EngineFailedError: as there.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, decode_unfinished, media, plan, asked)

    def close(self) -> None:
        """Accept nothing more; what is being encoded is finished."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _keep_encoded(media: Media, request: GenerateRequest) -> Encoded | None:
    """The media itself if it is a file of the requested format, or if none is requested; otherwise None."""
    if not isinstance(media, Encoded):
        return None
    asked = request.image.format
    if not asked or not media.media_type.startswith("image/"):
        return media
    return media if media.media_type == _media_type(asked) else None


def _encode(media: Media, request: GenerateRequest, provenance: Provenance | None) -> Encoded:
    match media:
        case Encoded():
            decoded = decode_image(media.data, read_header(media.data), ["RGB"])
            return _encode_image(decoded["RGB"], request.image.format, provenance)
        case Pixels():
            return _encode_image(media, request.image.format, provenance)
        case Samples():
            return encode_audio(media, AUDIO_FORMATS[request.audio.format], provenance)
        case _:
            assert_never(media)


def _encode_image(
    pixels: Pixels, asked: task_pb2.ImageFormat.ValueType, provenance: Provenance | None
) -> Encoded:
    form = _IMAGE_FORMATS[asked]
    match form:
        case "PNG":
            data = encode_png(pixels, _png_texts(provenance))
        case "JPEG" | "WEBP" | "AVIF":
            data = encode_lossy(pixels, form, provenance)
        case _:
            assert_never(form)
    return Encoded(
        media_type=_media_type(asked), data=data, width=pixels.width, height=pixels.height
    )


def _media_type(asked: task_pb2.ImageFormat.ValueType) -> str:
    return f"image/{_IMAGE_FORMATS[asked].lower()}"


def _png_texts(provenance: Provenance | None) -> dict[str, str]:
    """Text by PNG keyword; Stable Diffusion tools read `parameters`."""
    if provenance is None:
        return {}
    return {"parameters": provenance.parameters, "atelier": provenance.record}


def encode_png(pixels: Pixels, texts: Mapping[str, str]) -> bytes:
    """Encode an image as PNG without loss, with `texts` by keyword (1 to 79 Latin-1 characters).

    Source: Portable Network Graphics, third edition, chapters 5 (chunks), 9 (filters) and 11.3.3.4 (iTXt).
    """
    height, width, channels = pixels.array.shape
    header = struct.pack(">IIBBBBB", width, height, _PNG_BITS, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [
        _make_png_chunk(b"IHDR", header),
        _make_png_chunk(b"sRGB", _PERCEPTUAL),
        *(
            _make_png_chunk(b"iTXt", _encode_png_text(keyword, text))
            for keyword, text in texts.items()
        ),
        _make_png_chunk(b"IDAT", isal_zlib.compress(_filter_rows(pixels.array).data, _PNG_LEVEL)),
        _make_png_chunk(b"IEND", b""),
    ]
    return b"".join([_PNG_SIGNATURE, *(part for chunk in chunks for part in chunk)])


def _make_png_chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    check = isal_zlib.crc32(data, isal_zlib.crc32(name))
    return struct.pack(">I", len(data)) + name, data, struct.pack(">I", check)


def _encode_png_text(keyword: str, text: str) -> bytes:
    """An uncompressed iTXt chunk without language; NUL would end a field of it, and is removed."""
    return keyword.encode("latin-1") + bytes(5) + text.replace("\0", "").encode()


def _filter_rows(array: _Bytes) -> _Bytes:
    """Each row as differences to the left or to the row above, whichever are smaller, after the filter's number.

    Other filters do not pay: Paeth makes photos up to 9 % smaller in four times the time, and some drawings
    larger.

    Shapes:
        (height, width, channels) to (height, 1 + width x channels).
    """
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array).reshape(height, width * channels)
    sub, up = (np.empty((height, 1 + width * channels), np.uint8) for _ in range(2))
    sub[:, 0], up[:, 0] = _SUB, _UP
    sub[:, 1 : 1 + channels] = rows[:, :channels]
    np.subtract(rows[:, channels:], rows[:, :-channels], out=sub[:, 1 + channels :])
    up[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=up[1:, 1:])
    better = _sum_differences(up) < _sum_differences(sub)
    sub[better] = up[better]
    return sub


def _sum_differences(filtered: _Bytes) -> NDArray[np.uint32]:
    """Sum of the absolute differences in a sample of each row; differences of 128 and more count as negative."""
    sample = filtered[:, 1::_SAMPLE_STRIDE].view(np.int8)
    remainder: NDArray[np.uint32] = np.abs(sample).view(np.uint8).sum(axis=1, dtype=np.uint32)
    return remainder


def encode_lossy(pixels: Pixels, form: LossyFormat, provenance: Provenance | None) -> bytes:
    """Encode an image, with its provenance as metadata.

    JPEG holds 64 KiB of EXIF and as much XMP; whichever is longer is left out. Only prompts of the maximum length,
    most of them in characters beyond U+FFFF, are that long.
    """
    settings: dict[str, int | str | bytes] = {**_LOSSY_SETTINGS[form]}
    if pixels.array.shape[2] > 1 and form in _LOSSY_COLOUR:
        settings["subsampling"] = _LOSSY_COLOUR[form]
    if pixels.array.shape[2] > 1:
        settings["icc_profile"] = srgb_profile()
    if provenance is not None:
        settings |= _lossy_metadata(form, provenance)
    file = io.BytesIO()
    image_from_pixels(pixels).save(file, form, **settings)
    return file.getvalue()


def _lossy_metadata(form: LossyFormat, provenance: Provenance) -> dict[str, bytes]:
    exif, xmp = build_exif(provenance.parameters), build_xmp(provenance.record)
    metadata = {}
    if form != "JPEG" or len(exif) <= _JPEG_EXIF_BYTES:
        metadata["exif"] = exif
    if form != "JPEG" or len(xmp) <= _JPEG_XMP_BYTES:
        metadata["xmp"] = xmp
    return metadata
