"""Writes samples into audio files, with their provenance in tags."""

from __future__ import annotations

import io
import zlib
from typing import TypedDict

import numpy as np
import soundfile

from atelier_engines.media import Encoded, Samples
from atelier_server.artifacts.audio.blocks import iterate_blocks
from atelier_server.artifacts.audio.dither import quantize_blocks
from atelier_server.artifacts.audio.formats import AudioFileFormat
from atelier_server.artifacts.audio.id3 import build_id3
from atelier_server.artifacts.audio.ogg import rewrite_ogg
from atelier_server.artifacts.provenance import Provenance

AI_MARK = "AI-generated"
"""How the comment of each file begins: a mark that programs find, as laws ask for."""
_TITLE_LENGTH = 200


class _Tags(TypedDict):
    title: str
    artist: str
    comment: str


def encode_audio(samples: Samples, form: AudioFileFormat, provenance: Provenance | None) -> Encoded:
    """The samples as a file of that format; equal samples and provenance give equal bytes."""
    tags = None if provenance is None else _build_tags(provenance)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        samplerate=samples.sample_rate,
        channels=samples.array.shape[1],
        format=form.container,
        subtype=form.subtype,
    ) as written:
        if tags is not None and form.container != "MP3":
            for name, text in tags.items():
                if text:  # libsndfile refuses an empty one
                    setattr(written, name, text)
        to_blocks = quantize_blocks if form.subtype == "PCM_16" else iterate_blocks
        for block in to_blocks(samples.array):
            written.write(block)
    data = file.getvalue()
    if form.container == "OGG":
        serial = zlib.crc32(np.ascontiguousarray(samples.array).data.cast("B"))
        data = rewrite_ogg(data, serial, is_vorbis=form.subtype == "VORBIS")
    elif form.container == "MP3" and tags is not None:
        data = build_id3(**tags) + data
    return Encoded(media_type=form.media_type, data=data)


def _build_tags(provenance: Provenance) -> _Tags:
    """Title, artist and comment, which survive in all formats; the comment is the mark and the record.

    libsndfile changes `software`, MP3 has no `copyright`, and a NUL would end a tag.
    """
    return {
        "title": provenance.parameters.replace("\0", "")[:_TITLE_LENGTH],
        "artist": f"{provenance.engine} (Atelier)",
        "comment": f"{AI_MARK} {provenance.record}".replace("\0", ""),
    }
