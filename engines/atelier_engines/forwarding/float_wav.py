"""Writes samples into a WAV file of 32-bit floats, which holds them exactly."""

from __future__ import annotations

import struct

import numpy as np

from atelier_engines.media import Samples

_FLOAT = 3  # WAVE_FORMAT_IEEE_FLOAT
_BYTES = 4


def encode_wav(samples: Samples) -> bytes:
    """The file. Source: Microsoft, Multimedia Data Standards Update, 1994: formats other than PCM have a fact chunk."""
    frames, channels = samples.array.shape
    rate, frame_bytes = samples.sample_rate, channels * _BYTES
    layout = (_FLOAT, channels, rate, rate * frame_bytes, frame_bytes, 8 * _BYTES, 0)
    chunks = (
        _write_chunk(b"fmt ", struct.pack("<HHIIHHH", *layout)),
        _write_chunk(b"fact", struct.pack("<I", frames)),
        _write_chunk(b"data", np.ascontiguousarray(samples.array, "<f4").tobytes()),
    )
    return _write_chunk(b"RIFF", b"".join([b"WAVE", *chunks]))


def _write_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content
