"""Encodes images and audio as files, on threads of its own."""

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
from atelier_server.artifacts.lossy import LossyFormat, encode_lossy
from atelier_server.artifacts.png import encode_png
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
_AUDIO_BLOCK_SAMPLES = (
    2**16
)  # libsndfile's Vorbis encoder puts the samples of one call on its stack


class Encoder:
    """Encodes the media that engines return.

    It has one thread per core of its own, because engines may block all threads of asyncio's executor.
    All codecs but JPEG release Python's lock; JPEG takes 4 ms per megapixel and yields every few milliseconds.
    """

    def __init__(self, *, metadata: bool) -> None:
        """With `metadata`, image files contain their provenance."""
        self._metadata = metadata
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="encode")

    async def encode(
        self, media: Media, request: GenerateRequest, provenance: Provenance | None
    ) -> Encoded:
        """The media in the file format of the request; unchanged if it is a file of that format already."""
        ready = _keep_encoded(media, request)
        if ready is not None:
            # Not one byte is changed, metadata or not: the service may have signed its file (C2PA), and any
            # change would make the signature invalid.
            return ready
        known = provenance if self._metadata else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _encode, media, request, known)

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
            with Image.open(io.BytesIO(media.data)) as image:
                return _encode_image(pixels_from_image(image), request.image.format, provenance)
        case Pixels():
            return _encode_image(media, request.image.format, provenance)
        case Samples():
            return _encode_audio(media, request.audio.format)
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


def _encode_audio(samples: Samples, asked: task_pb2.AudioFormat.ValueType) -> Encoded:
    name, subtype, media_type = _AUDIO_FORMATS[asked]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        samplerate=samples.sample_rate,
        channels=samples.array.shape[1],
        format=name,
        subtype=subtype,
    ) as encoded:
        for start in range(0, len(samples.array), _AUDIO_BLOCK_SAMPLES):
            encoded.write(samples.array[start : start + _AUDIO_BLOCK_SAMPLES])
    return Encoded(media_type=media_type, data=file.getvalue())
