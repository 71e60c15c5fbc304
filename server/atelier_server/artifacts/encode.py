"""Turns pixels and samples into files, in threads of its own."""

from __future__ import annotations

import asyncio
import io
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, assert_never

import soundfile
from PIL import Image

from atelier.v1 import task_pb2
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.imaging import pixels_from_image
from atelier_engines.media import Encoded, Media, Pixels, Samples
from atelier_server.artifacts.lossy import LossyFormat, lossy_from_pixels
from atelier_server.artifacts.png import png_from_pixels
from atelier_server.artifacts.provenance import Provenance

_IMAGE_FORMATS: dict[task_pb2.ImageFormat.ValueType, Literal["PNG"] | LossyFormat] = {
    task_pb2.IMAGE_FORMAT_UNSPECIFIED: "PNG",
    task_pb2.IMAGE_FORMAT_PNG: "PNG",
    task_pb2.IMAGE_FORMAT_WEBP: "WEBP",
    task_pb2.IMAGE_FORMAT_JPEG: "JPEG",
    task_pb2.IMAGE_FORMAT_AVIF: "AVIF",
}
_AUDIO_FORMATS = {
    task_pb2.AUDIO_FORMAT_UNSPECIFIED: ("WAV", "PCM_16", "audio/wav"),
    task_pb2.AUDIO_FORMAT_WAV: ("WAV", "PCM_16", "audio/wav"),
    task_pb2.AUDIO_FORMAT_FLAC: ("FLAC", "PCM_16", "audio/flac"),
    task_pb2.AUDIO_FORMAT_OGG: ("OGG", "VORBIS", "audio/ogg"),
}
_SOUND_BLOCK = 2**16  # libsndfile's Vorbis lays out on its stack what one call writes


class Encoder:
    """Makes files of what engines make.

    Its threads are its own, one a core: a thread that asyncio lends may be one that engines wait for.
    All codecs but JPEG let other threads run; JPEG, at 4 ms a megapixel, gives way to them every few milliseconds.
    """

    def __init__(self, *, metadata: bool) -> None:
        """With `metadata`, the files of pictures say how they were made."""
        self._metadata = metadata
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="encode")

    async def encode(
        self, media: Media, request: GenerateRequest, provenance: Provenance | None
    ) -> Encoded:
        """The media in the file format that the request asks for; untouched when it is such a file already."""
        ready = _as_asked(media, request)
        if ready is not None:
            # Byte for byte, metadata or not: the vendor may have signed its file (C2PA), and whatever we
            # wrote into it would turn a signed picture into one that was tampered with.
            return ready
        known = provenance if self._metadata else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _encoded, media, request, known)

    def close(self) -> None:
        """Begin nothing more; what is being encoded comes to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _as_asked(media: Media, request: GenerateRequest) -> Encoded | None:
    """The media itself, when it is a file already, in the format asked for or with none asked for; else None."""
    if not isinstance(media, Encoded):
        return None
    asked = request.image.format
    if not asked or not media.media_type.startswith("image/"):
        return media
    return media if media.media_type == _media_type(asked) else None


def _encoded(media: Media, request: GenerateRequest, provenance: Provenance | None) -> Encoded:
    match media:
        case Encoded():
            with Image.open(io.BytesIO(media.data)) as picture:
                return _picture(pixels_from_image(picture), request.image.format, provenance)
        case Pixels():
            return _picture(media, request.image.format, provenance)
        case Samples():
            return _sound(media, request.audio.format)
        case _:
            assert_never(media)


def _picture(
    pixels: Pixels, asked: task_pb2.ImageFormat.ValueType, provenance: Provenance | None
) -> Encoded:
    form = _IMAGE_FORMATS[asked]
    match form:
        case "PNG":
            data = png_from_pixels(pixels, _texts(provenance))
        case "JPEG" | "WEBP" | "AVIF":
            data = lossy_from_pixels(pixels, form, provenance)
        case _:
            assert_never(form)
    return Encoded(
        media_type=_media_type(asked), data=data, width=pixels.width, height=pixels.height
    )


def _media_type(asked: task_pb2.ImageFormat.ValueType) -> str:
    return f"image/{_IMAGE_FORMATS[asked].lower()}"


def _texts(provenance: Provenance | None) -> dict[str, str]:
    """By PNG keyword; `parameters` is where the tools of Stable Diffusion look."""
    if provenance is None:
        return {}
    return {"parameters": provenance.parameters, "atelier": provenance.record}


def _sound(samples: Samples, asked: task_pb2.AudioFormat.ValueType) -> Encoded:
    name, subtype, media_type = _AUDIO_FORMATS[asked]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        samplerate=samples.sample_rate,
        channels=samples.array.shape[1],
        format=name,
        subtype=subtype,
    ) as sound:
        for start in range(0, len(samples.array), _SOUND_BLOCK):
            sound.write(samples.array[start : start + _SOUND_BLOCK])
    return Encoded(media_type=media_type, data=file.getvalue())
