"""Checks FLAC files that callers send: decoders stop where the header says, whatever follows.

Source: RFC 9639, 8.2: the header has the MD5 of all samples, each in as many bytes as it needs, the
least significant first.
"""

from __future__ import annotations

import hashlib

import numpy as np
import soundfile
from numpy.typing import NDArray

from atelier_server.artifacts.audio.blocks import BLOCK_SAMPLES

_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")
"""The first bytes of every file: so many do not come about by chance."""
_MD5, _MD5_BYTES = 26, 16
_UNKNOWN = bytes(_MD5_BYTES)
_BYTES = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}


def find_fault(file: bytes) -> str:
    """What a decoder would not read of the file; empty for nothing."""
    is_joined = any(file.find(start, 1) > 0 for start in _STARTS)
    return "goes on after its end: send one file, not several that were joined" if is_joined else ""


def read_signature(file: bytes) -> bytes | None:
    """The MD5 of the samples in the header; None where the writer left it open."""
    found = file[_MD5 : _MD5 + _MD5_BYTES]
    return None if found == _UNKNOWN else found


def sign(file: soundfile.SoundFile) -> bytes:
    """The MD5 of the samples from here to the end; reads them."""
    size = _BYTES[file.subtype]
    made = hashlib.md5(usedforsecurity=False)
    while len(block := file.read(BLOCK_SAMPLES, dtype="int32", always_2d=True)):
        made.update(_cut_bytes(block, size))
    return made.digest()


def _cut_bytes(block: NDArray[np.int32], size: int) -> bytes:
    """The upper bytes of each number, which libsndfile puts there."""
    little = np.ascontiguousarray(block.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return little[:, 4 - size :].tobytes()
