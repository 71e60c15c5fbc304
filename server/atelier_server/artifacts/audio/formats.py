"""The file formats of audio, and what each can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier.v1 import task_pb2 as pb

OUTPUT_SAMPLE_RATES = (
    *(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    *(88200, 96000, 176400, 192000),
)
"""Hertz that outputs are resampled to, ascending."""
_MP3_RATES = OUTPUT_SAMPLE_RATES[:9]
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFileFormat:
    """A file format, as libsndfile names it."""

    name: str
    """Its name for people."""
    container: str
    subtype: str
    media_type: str
    sample_rates: tuple[int, ...] = ()
    """Hertz, ascending; empty for all of the contract."""
    max_channels: int = 8


_WAV = AudioFileFormat(name="WAV", container="WAV", subtype="PCM_16", media_type="audio/wav")
AUDIO_FORMATS: Mapping[pb.AudioFormat.ValueType, AudioFileFormat] = {
    pb.AUDIO_FORMAT_UNSPECIFIED: _WAV,
    pb.AUDIO_FORMAT_WAV: _WAV,
    pb.AUDIO_FORMAT_FLAC: AudioFileFormat(
        name="FLAC", container="FLAC", subtype="PCM_16", media_type="audio/flac"
    ),
    pb.AUDIO_FORMAT_OGG: AudioFileFormat(
        name="Ogg Vorbis", container="OGG", subtype="VORBIS", media_type="audio/ogg"
    ),
    pb.AUDIO_FORMAT_OPUS: AudioFileFormat(
        name="Opus",
        container="OGG",
        subtype="OPUS",
        media_type="audio/ogg",  # RFC 7845, 9
        sample_rates=_OPUS_RATES,
    ),
    pb.AUDIO_FORMAT_MP3: AudioFileFormat(
        name="MP3",
        container="MP3",
        subtype="MPEG_LAYER_III",
        media_type="audio/mpeg",
        sample_rates=_MP3_RATES,
        max_channels=2,
    ),
}
"""By their values in the contract."""


def nearest_rate(rate: int, allowed: tuple[int, ...]) -> int:
    """The lowest allowed rate that loses nothing, else the highest; the rate itself where all are allowed."""
    if not allowed:
        return rate
    return next((one for one in sorted(allowed) if one >= rate), max(allowed))
