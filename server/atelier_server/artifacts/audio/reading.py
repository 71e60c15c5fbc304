"""Reads audio files that callers send, which may be anything: header first, then the samples block by block.

libsndfile reads more formats, some of them rare; no file reaches it that does not begin as one of those below.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import soundfile

from atelier_engines.decoding.header import UndecodableError
from atelier_engines.media import Samples
from atelier_server.artifacts.audio import flac, mp3, ogg
from atelier_server.artifacts.audio.blocks import BLOCK_SAMPLES, Floats
from atelier_server.artifacts.audio.checks import is_clipped
from atelier_server.artifacts.audio.other_files import KNOWN, describe_other
from atelier_server.artifacts.audio.wav import find_wav_fault

MAX_INPUT_SECONDS = 600.0
"""The longest audio that is read."""
_MIN_RATE, _MAX_RATE = 8000, 192000
_MAX_CHANNELS = 2
_SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
"""What is read, by container as libsndfile names both."""
_MEDIA_TYPES = {"WAV": "audio/wav", "FLAC": "audio/flac", "OGG": "audio/ogg", "MP3": "audio/mpeg"}
_SILENCE = 1e-4  # -80 dB, below which audio that an engine makes is a failure, too
_LOWERED = 10 ** (-1 / 20)
_MP3_SYNC = 0xE0  # the upper three bits of the second byte; the first has all
_LAYER, _LAYER_3 = 0x06, 0x02  # of the second byte
_UNKNOWN_LENGTH = 2**62
_LARGEST = 2.0**32
"""More than any scale of samples: floats in another byte order, or damaged, are as large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioHeader:
    """Length and layout of the audio in a file, found by reading all of it."""

    samples: int
    """Of each channel."""
    sample_rate: int
    """Hertz."""
    channels: int
    """1 or 2."""
    container: str = field(default="", compare=False)
    """As libsndfile names it: WAV, FLAC, OGG, MP3."""
    subtype: str = field(default="", compare=False)
    """The codec or the type of the samples, as libsndfile names it."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / self.sample_rate


def detect_audio(data: bytes) -> str | None:
    """The media type of an audio file, by its first bytes; None if it begins as none that is read."""
    container = _detect_container(data)
    return None if container is None else _MEDIA_TYPES[container]


def read_header(data: bytes) -> AudioHeader:
    """Length and layout of an audio file, all of whose samples can be read; holds a block of them at a time.

    Raises:
        UndecodableError: another format, truncated or damaged, empty, silent, too long, of too many channels or another
            rate than 8 to 192 kHz, or with samples that are no numbers.
    """
    with _open(data) as file:
        samples = 0
        low, high = np.full(file.channels, np.inf), np.full(file.channels, -np.inf)
        for block in _iterate_blocks(file):
            samples += len(block)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        if not samples:
            raise UndecodableError("the audio file has no samples")
        if max(high.max(), -low.min()) < _SILENCE:
            raise UndecodableError("the audio file is silent: no sample is above -80 dB")
        if (high - low).max() < _SILENCE:
            raise UndecodableError("the audio file is silent: all of its samples have one value")
        _check_signature(file, data)
        return AudioHeader(
            samples=samples,
            sample_rate=file.samplerate,
            channels=file.channels,
            container=file.format.removesuffix("EX"),
            subtype=file.subtype,
        )


def _check_signature(file: soundfile.SoundFile, data: bytes) -> None:
    """Return if a FLAC file has the samples that it was written with.

    Raises:
        UndecodableError: it has others: some are damaged, or its header states fewer than it has.
    """
    if file.format != "FLAC":
        return
    signature = flac.read_signature(data[mp3.skip_tags(data) :])
    if signature is None:
        return
    file.seek(0)
    if flac.sign(file) != signature:
        raise UndecodableError(
            "the FLAC file is damaged: its samples are not those of its MD5 signature"
        )


def decode(data: bytes, header: AudioHeader) -> Samples:
    """The samples of a file that has this header; lowered, if any is above full scale or many are clipped.

    Raises:
        UndecodableError: as `read_header`.
    """
    array = np.empty((header.samples, header.channels), np.float32)
    with _open(data) as file:
        start = 0
        for block in _iterate_blocks(file):
            array[start : start + len(block)] = block
            start += len(block)
    peak = max(float(array.max()), -float(array.min()))
    if peak > 1.0:
        array /= np.float32(peak)
        np.clip(array, -1.0, 1.0, out=array)
    if is_clipped(array):  # what an engine makes of it is no fault of the engine's
        array *= np.float32(_LOWERED)
    return Samples(array=array, sample_rate=header.sample_rate)


@contextmanager
def _open(data: bytes) -> Generator[soundfile.SoundFile]:
    """The file, whose header is within the limits.

    Raises:
        UndecodableError: it is not, or what libsndfile raises within.
    """
    container = _detect_container(data)
    if container is None:
        raise UndecodableError(describe_other(data))
    if container != "MP3":
        data = data[mp3.skip_tags(data) :]
    if fault := _find_fault(data, container):
        raise UndecodableError(f"the {container} file {fault}")
    if container == "OGG":
        data = ogg.state_rate(data)
    elif container == "MP3" and isinstance(frames := mp3.find_frames(data), mp3.Mp3Frames):
        data = mp3.cut_out(data, frames)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file, container)
            yield file
    except soundfile.SoundFileError as error:
        raise UndecodableError(f"the {container} file is truncated or damaged") from error


def _check_header(file: soundfile.SoundFile, container: str) -> None:
    form = file.format.removesuffix("EX")  # WAVEX is WAV with an extensible header
    if form != container or file.subtype not in _SUBTYPES[container]:
        raise UndecodableError(
            f"a {file.format} file with {file.subtype} samples is not read; send {KNOWN}"
        )
    if file.channels > _MAX_CHANNELS:
        raise UndecodableError(f"audio may have one or two channels, not {file.channels}: mix them")
    if not _MIN_RATE <= file.samplerate <= _MAX_RATE:
        raise UndecodableError(
            f"audio may have {_MIN_RATE} to {_MAX_RATE} Hz, not {file.samplerate}: resample it"
        )
    if file.frames >= _UNKNOWN_LENGTH:
        raise UndecodableError(
            "the audio file does not state its length, as if written into a pipe: write it into a file"
        )
    if file.frames > MAX_INPUT_SECONDS * file.samplerate:
        seconds = file.frames / file.samplerate
        raise UndecodableError(
            f"audio may have at most {MAX_INPUT_SECONDS:g} seconds, not {seconds:g}: cut it"
        )


def _iterate_blocks(file: soundfile.SoundFile) -> Iterator[Floats]:
    """The samples, as many as the header states.

    Raises:
        UndecodableError: there are more or fewer, or some are no numbers.
    """
    samples = 0
    while len(block := file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        samples += len(block)
        if not np.isfinite(block).all():
            raise UndecodableError("the audio file has samples that are no numbers")
        if max(block.max(), -block.min()) > _LARGEST:
            raise UndecodableError(
                f"the audio file has samples of {np.abs(block).max():.1g}, where full scale is 1: it is damaged, or "
                "its floats are written in another byte order"
            )
        yield block
    if samples != file.frames:
        raise UndecodableError(
            f"the audio file is truncated or damaged: it has {samples} samples of {file.frames}"
        )


def _detect_container(data: bytes) -> str | None:
    """By the first bytes, or by those behind a tag: programs put tags of MP3 before files of all kinds."""
    start = mp3.skip_tags(data) if data.startswith(b"ID3") else 0
    if data.startswith(b"RIFF", start) and data.startswith(b"WAVE", start + 8):
        return "WAV"
    if data.startswith(b"fLaC", start):
        return "FLAC"
    if data.startswith(b"OggS", start):
        return "OGG"
    if start:
        return "MP3"
    is_frame = data[:1] == b"\xff" and len(data) > 1 and data[1] & _MP3_SYNC == _MP3_SYNC
    return "MP3" if is_frame and data[1] & _LAYER == _LAYER_3 else None


def _find_fault(data: bytes, container: str) -> str:
    """What is wrong with the file, where libsndfile would read what there is; empty for nothing."""
    match container:
        case "WAV":
            return find_wav_fault(data)
        case "OGG":
            return ogg.find_fault(data)
        case "FLAC":
            return flac.find_fault(data)
        case "MP3":
            found = mp3.find_frames(data)
            return found if isinstance(found, str) else ""
        case _:
            return ""
