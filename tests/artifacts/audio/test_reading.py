"""Audio files of all kinds that callers may send: read to the sample, or refused with what to change."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from atelier_engines.decoding.header import UndecodableError
from atelier_engines.forwarding.float_wav import encode_wav
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask
from atelier_server.artifacts.audio.checks import check_samples
from atelier_server.artifacts.audio.reading import (
    AudioHeader,
    decode,
    detect_audio,
    read_header,
)
from atelier_server.artifacts.fitting import fit_audio

SECONDS = 0.5


def tone(rate: int, channels: int, seconds: float = SECONDS) -> NDArray[np.float64]:
    """440 Hz at half of full scale."""
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def write(
    container: str, subtype: str, rate: int = 44100, channels: int = 2, seconds: float = SECONDS
) -> bytes:
    """A file of the tone."""
    file = io.BytesIO()
    wave = tone(rate, channels, seconds)
    soundfile.write(file, wave, rate, format=container, subtype=subtype)
    return file.getvalue()


WAV = write("WAV", "PCM_16")
FLAC = write("FLAC", "PCM_16")
VORBIS = write("OGG", "VORBIS", seconds=5.0)
OPUS = write("OGG", "OPUS", 48000, seconds=5.0)
MP3 = write("MP3", "MPEG_LAYER_III")
TAG = b"ID3\4\0\0\0\0\0\x10" + bytes(16)
TAG_WITH_FOOTER = b"ID3\4\0\x10\0\0\0\x10" + bytes(16) + b"3DI\4\0\x10\0\0\0\x10"
"""Source: ID3v2.4, 3.4."""


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The bytes with others in their place."""
    return data[:at] + new + data[at + len(new) :]


def streamed(data: bytes, size: int) -> bytes:
    """As written into a pipe, where sizes are not known."""
    sizes = struct.pack("<I", size)
    return patched(patched(data, 4, sizes), data.index(b"data") + 4, sizes)


def with_nan() -> bytes:
    """A file of floats of which one is no number."""
    data = write("WAV", "FLOAT")
    return patched(data, data.index(b"data") + 80, struct.pack("<f", float("nan")))


def stating(size: int) -> bytes:
    """A WAV file whose header states so many bytes of samples."""
    return patched(WAV, WAV.index(b"data") + 4, struct.pack("<I", size))


def without_length() -> bytes:
    """A FLAC file whose header leaves open how many samples there are. Source: RFC 9639, 8.2."""
    return patched(FLAC, 21, bytes([FLAC[21] & 0xF0, 0, 0, 0, 0]))


def without_page(data: bytes) -> bytes:
    """An Ogg file without its fourth page."""
    pages = data.split(b"OggS")[1:]
    assert len(pages) > 4
    return b"".join(b"OggS" + page for page in pages[:3] + pages[4:])


def unknown_codec() -> bytes:
    """A WAV file whose extensible header names samples that nobody knows."""
    data = write("WAVEX", "PCM_24")
    return patched(data, data.index(b"fmt ") + 8 + 30, b"\xff")


def with_float(value: float) -> bytes:
    """A file of floats of which one is that much."""
    data = write("WAV", "FLOAT")
    return patched(data, data.index(b"data") + 80, struct.pack("<f", value))


def write_constant(value: float) -> bytes:
    """A file of one value."""
    file = io.BytesIO()
    soundfile.write(file, np.full((1000, 1), value), 44100, format="WAV")
    return file.getvalue()


def with_pages(data: bytes, change: Callable[[int, bytearray], None]) -> bytes:
    """An Ogg file whose pages are changed, by their numbers, with checksums that are right."""
    made = []
    for number, page in enumerate(data.split(b"OggS")[1:]):
        changed = bytearray(b"OggS" + page)
        change(number, changed)
        changed[22:26] = bytes(4)
        made.append(patched(bytes(changed), 22, struct.pack("<I", sum_up(changed))))
    return b"".join(made)


def sum_up(page: bytes | bytearray) -> int:
    """The CRC-32 of Ogg, bit by bit. Source: RFC 3533, 6."""
    total = 0
    for byte in page:
        total ^= byte << 24
        for _ in range(8):
            total = total << 1 ^ (0x104C11DB7 if total & 0x80000000 else 0)
    return total


def with_rate(rate: int) -> bytes:
    """Opus whose first packet says that it was encoded from that rate. Source: RFC 7845, 5.1."""

    def change(number: int, page: bytearray) -> None:
        if number == 0:
            struct.pack_into("<I", page, page.index(b"OpusHead") + 12, rate)

    return with_pages(write("OGG", "OPUS", 48000, 1), change)


def ending_at(data: bytes, granule: int) -> bytes:
    """An Ogg file whose last page says that it ends there."""
    count = data.count(b"OggS")

    def change(number: int, page: bytearray) -> None:
        if number == count - 1:
            struct.pack_into("<q", page, 6, granule)

    return with_pages(data, change)


def swapped() -> bytes:
    """Floats in the other byte order."""
    data = write("WAV", "FLOAT")
    start = data.index(b"data") + 8
    return data[:start] + np.frombuffer(data[start:], "<u4").byteswap().tobytes()


READ: Mapping[str, tuple[bytes, AudioHeader]] = {
    name: (data, AudioHeader(samples=round(SECONDS * rate), sample_rate=rate, channels=channels))
    for name, data, rate, channels in (
        ("wav", WAV, 44100, 2),
        ("wav, extensible, 24 bits", write("WAVEX", "PCM_24"), 44100, 2),
        ("wav of 32 bits", write("WAV", "PCM_32"), 44100, 2),
        ("wav of floats", write("WAV", "FLOAT"), 44100, 2),
        ("wav of doubles", write("WAV", "DOUBLE"), 44100, 2),
        ("wav of 8 bits", write("WAV", "PCM_U8"), 44100, 2),
        ("telephone", write("WAV", "ULAW", 8000, 1), 8000, 1),
        ("8 kHz mono", write("WAV", "PCM_16", 8000, 1), 8000, 1),
        ("192 kHz", write("WAV", "PCM_16", 192000, 1), 192000, 1),
        ("streamed", streamed(WAV, 0xFFFFFFFF), 44100, 2),
        ("streamed by sox", streamed(WAV, 0x7FFFFFFF), 44100, 2),
        ("odd chunk before", WAV[:36] + b"LIST\3\0\0\0abc\0" + WAV[36:], 44100, 2),
        ("flac", FLAC, 44100, 2),
        ("flac of 24 bits", write("FLAC", "PCM_24"), 44100, 2),
        ("vorbis", write("OGG", "VORBIS"), 44100, 2),
        ("opus", write("OGG", "OPUS", 48000, 1), 48000, 1),
        ("wav with chunks after", WAV + b"LIST\3\0\0\0abc\0_PMX\2\0\0\0ab", 44100, 2),
        ("wav with an odd chunk after", WAV + b"LIST\3\0\0\0abcfact\0\0\0\0", 44100, 2),
        ("wav with a tag after", WAV + b"TAG" + bytes(125), 44100, 2),
        ("wav filled up", WAV + bytes(333), 44100, 2),
        ("wav behind a tag", TAG + WAV, 44100, 2),
        ("vorbis behind a tag", TAG + write("OGG", "VORBIS"), 44100, 2),
        ("flac behind a tag", TAG + FLAC, 44100, 2),
        ("flac behind a tag with a footer", TAG_WITH_FOOTER + FLAC, 44100, 2),
        ("flac of 8 bits", write("FLAC", "PCM_S8"), 44100, 2),
        ("flac without a signature", patched(FLAC, 26, bytes(16)), 44100, 2),
        ("opus without its rate", with_rate(0), 48000, 1),
        ("opus of a rate that is none", with_rate(4 * 10**9), 48000, 1),
        ("mp3", MP3, 44100, 2),
        ("mp3 with a tag", TAG + MP3, 44100, 2),
        ("mp3 with a tag with a footer", TAG_WITH_FOOTER + MP3, 44100, 2),
    )
}

REFUSED: Mapping[str, tuple[bytes, str]] = {
    "nothing": (b"", "not WAV, FLAC, Ogg Vorbis, Opus or MP3: it is empty"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(64), "not WAV"),
    "aiff": (write("AIFF", "PCM_16"), "not WAV.*, but AIFF"),
    "rf64": (write("RF64", "PCM_16"), "not WAV.*, but RF64; write it as WAV"),
    "w64": (write("W64", "PCM_16"), "not WAV.*, but Wave64; write it as WAV"),
    "wav of an unknown codec": (
        unknown_codec(),
        "samples of an unknown kind, 0100.*: write it as PCM",
    ),
    "one value": (write_constant(1.0), "is silent: all of its samples have one value"),
    "webp": (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(64), "not WAV"),
    "adpcm": (write("WAV", "IMA_ADPCM"), "IMA_ADPCM samples is not read; send WAV"),
    "no samples": (write("WAV", "PCM_16", seconds=0), "has no samples"),
    "flac without its length": (without_length(), "does not state its length"),
    "6 channels": (write("WAV", "PCM_16", channels=6), "one or two channels, not 6: mix them"),
    "4 kHz": (write("WAV", "PCM_16", 4000), "8000 to 192000 Hz, not 4000"),
    "4 GHz": (patched(WAV, 24, struct.pack("<I", 4 * 10**9)), "damaged"),
    "too long": (
        write("FLAC", "PCM_16", 8000, 1, seconds=601),
        "at most 600 seconds, not 601: cut",
    ),
    "not a number": (with_nan(), "samples that are no numbers"),
    "damaged floats": (with_float(1e30), r"samples of 1e\+30, where full scale is 1"),
    "floats of another byte order": (swapped(), "no numbers|another byte order"),
    "aac": (b"\xff\xf1" + bytes(64), "not WAV.*, but AAC"),
    "mp2": (b"\xff\xfd" + bytes(64), "not WAV.*, but MPEG layer II"),
    "mp2 of MPEG 2": (b"\xff\xf5" + bytes(64), "not WAV.*, but MPEG layer II"),
    "flac whose header states fewer samples": (
        patched(FLAC, 22, struct.pack(">I", 1000)),
        "samples are not those of its MD5 signature",
    ),
    "flac of 24 bits with another signature": (
        patched(write("FLAC", "PCM_24"), 26, bytes(range(16))),
        "samples are not those of its MD5 signature",
    ),
    "vorbis that ends before it ends": (ending_at(VORBIS, 5000), "ends before the one before it"),
    "opus that ends before it ends": (ending_at(OPUS, 5000), "ends before the one before it"),
    "vorbis that ends nowhere": (ending_at(VORBIS, -1), "ends before the one before it"),
    "wav without samples": (WAV[:40], "truncated"),
    "wav whose header states fewer samples": (
        stating(1000),
        f"has {len(WAV) - 44 - 1000} bytes more than its header states: write it again",
    ),
    "wav whose header was not finished": (stating(0), "bytes more than its header states"),
    "wav followed by what is no chunk": (WAV + b"\xde\xad\xbe\xef" * 9, "has 36 bytes more"),
    "wav followed by half a chunk": (WAV + b"LIST\xff\0\0\0INFO", "has 12 bytes more"),
    "two of flac": (FLAC * 2, "goes on after its end: send one file"),
    "damaged flac": (patched(FLAC, len(FLAC) // 2, b"\xaa\x55\xaa"), "damaged"),
    "damaged vorbis": (patched(VORBIS, len(VORBIS) // 2, bytes(99)), "damaged|truncated"),
    "vorbis with a bit changed": (
        patched(VORBIS, -40 + len(VORBIS), b"\0\xff"),
        "the checksum of page",
    ),
    "opus with a bit changed": (patched(OPUS, -40 + len(OPUS), b"\0\xff"), "the checksum of page"),
    "vorbis without a page": (without_page(VORBIS), "page 3 is missing"),
    "opus without a page": (without_page(OPUS), "page 3 is missing"),
    "two of vorbis": (VORBIS * 2, "has more than one stream"),
    "two of opus": (OPUS * 2, "has more than one stream"),
    "ogg with flac": (
        b"OggS" + bytes(22) + b"\1\5\x7fFLAC",
        "neither Vorbis nor Opus in it: write",
    ),
    "two of mp3": (
        write("MP3", "MPEG_LAYER_III", seconds=3.0) * 2,
        "where its header says that it ends",
    ),
    "mp3 without its length": (
        MP3.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4)),
        "has no header with its length",
    ),
    "silence": (write_constant(0.0), "is silent: no sample is above -80 dB"),
    "mp3 with a hole": (patched(MP3, len(MP3) // 2, bytes(300)), "damaged: it has 7 frames of 21"),
    **{
        f"truncated {name}": (data[: len(data) * 2 // 3], "truncated")
        for name, data in (("wav", WAV), ("flac", FLAC), ("mp3", MP3))
    },
    "truncated vorbis": (VORBIS[: len(VORBIS) * 2 // 3], "truncated"),
    "truncated opus": (OPUS[: len(OPUS) * 2 // 3], "truncated"),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_read_to_the_sample(name: str) -> None:
    """Length, rate, channels, and the tone: MP3, Vorbis and Opus to some hundredths."""
    data, expected = READ[name]
    header = read_header(data)
    assert header == expected
    made = decode(data, header)
    assert made.array.shape == (header.samples, header.channels)
    wave = tone(header.sample_rate, header.channels)
    assert np.abs(made.array - wave)[1000:-1000].max() <= 0.05
    assert detect_audio(data) is not None


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_what_to_change(name: str) -> None:
    """Never read as something shorter, and never as noise."""
    data, words = REFUSED[name]
    with pytest.raises(UndecodableError, match=words):
        read_header(data)


def test_whatever_bytes_come_are_read_or_refused() -> None:
    """Hundreds of files with a few bytes changed, each of them read as it says or refused."""
    drawn = np.random.default_rng(5)
    for data in (WAV, FLAC, VORBIS[:6000], MP3):
        for _ in range(60):
            broken = bytearray(data)
            for at in drawn.integers(0, min(len(data), 600), drawn.integers(1, 5)):
                broken[at] = drawn.integers(256)
            try:
                header = read_header(bytes(broken))
            except UndecodableError:
                continue
            made = decode(bytes(broken), header)
            assert np.isfinite(made.array).all()
            assert np.abs(made.array).max() <= 1.0


@pytest.mark.parametrize(
    "data",
    [
        b"ID3\4\0\0\0\0\0\0" + bytes(2**18),
        b"ID3\4\0\0\0\0\0\0" * 2**14,
        WAV[:12] + b"junk\0\0\0\0" * 2**15,
        WAV + b"junk\0\0\0\0" * 2**15,
    ],
    ids=["zeros", "tags", "chunks before", "chunks after"],
)
def test_many_small_parts_cost_little(data: bytes) -> None:
    """A quarter of a megabyte is refused in few steps of the interpreter, which others would have to wait for."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event.endswith("call")

    sys.setprofile(count)
    try:
        with pytest.raises(UndecodableError):
            read_header(data)
    finally:
        sys.setprofile(None)
    assert calls < 10_000


def test_a_long_file_is_inspected_in_little_memory() -> None:
    """Ten minutes, of 19 MB as floats, in less than one."""
    data = write("FLAC", "PCM_16", 8000, 1, seconds=600)
    tracemalloc.start()
    read_header(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_samples_above_full_scale_are_lowered() -> None:
    """Files of floats may have them; their shape stays."""
    file = io.BytesIO()
    soundfile.write(file, 4 * tone(44100, 1), 44100, format="WAV", subtype="FLOAT")
    made = decode(file.getvalue(), read_header(file.getvalue()))
    assert np.abs(made.array - 2 * tone(44100, 1)).max() <= 1e-6


def test_clipped_audio_is_lowered() -> None:
    """An engine that keeps it would be blamed for it; a loud tone is left as it is."""
    loud, file = np.sign(tone(44100, 1)), io.BytesIO()
    soundfile.write(file, loud, 44100, format="WAV", subtype="FLOAT")
    made = decode(file.getvalue(), read_header(file.getvalue()))
    assert np.abs(made.array - 10 ** (-1 / 20) * loud).max() <= 1e-6
    check_samples(made.array)
    file = io.BytesIO()
    soundfile.write(file, 2 * tone(44100, 1), 44100, format="WAV", subtype="FLOAT")
    made = decode(file.getvalue(), read_header(file.getvalue()))
    assert np.abs(made.array).max() > 0.999


@pytest.mark.parametrize(
    "data",
    [
        MP3 + bytes(3000),
        b"ID3\4\0\0\0\0\1\0" + bytes(128) + MP3 + b"TAG" + bytes(125),
        patched(MP3, len(MP3) // 2, bytes(300)),
        MP3[: len(MP3) // 2],
    ],
    ids=["zeros after it", "tags", "hole", "truncated"],
)
def test_the_decoder_of_mp3_says_nothing(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """It writes its warnings into the log of the server as they are, from C."""
    with suppress(UndecodableError):
        assert decode(data, read_header(data)).array.shape == (22050, 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_audio_is_fitted_to_the_task(rate: int, channels: int) -> None:
    """Its rate, its channels, and at most its duration; shorter audio stays shorter."""
    audio = Samples(array=tone(rate, channels, 3.0).astype(np.float32), sample_rate=rate)
    for seconds, kept in ((1.0, 1.0), (5.0, 3.0)):
        task = AudioTask(
            prompt="rain",
            duration_seconds=seconds,
            seed=1,
            sample_rate=44100,
            channels=2,
            init_audio=audio,
        )
        fitted = fit_audio(task).init_audio
        assert fitted is not None
        assert fitted.sample_rate == 44100
        assert fitted.array.shape == (round(kept * 44100), 2)
        wave = tone(44100, 2, kept)
        assert np.abs(fitted.array - wave)[2000:-2000].max() <= 1e-3


def test_a_file_of_floats_holds_the_samples_exactly() -> None:
    """As it is sent to another server."""
    noise = np.random.default_rng(1).uniform(-1, 1, (500, 2)).astype(np.float32)
    data = encode_wav(Samples(array=noise, sample_rate=44100))
    made = decode(data, read_header(data))
    assert np.array_equal(made.array, noise)
    assert soundfile.info(io.BytesIO(data)).subtype == "FLOAT"
