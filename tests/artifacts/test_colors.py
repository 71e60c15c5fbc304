"""Depths and profiles of input images: the engine gets sRGB in eight bits, and outputs say that they are sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from atelier.v1 import task_pb2
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.media import Pixels
from atelier_server.artifacts.decode import Background, Mode, decode_image
from atelier_server.artifacts.encode import Encoder
from atelier_server.artifacts.image_header import read_header
from tests.artifacts.profiles import (
    CYAN,
    adobe_to_srgb,
    cmyk_profile,
    grey_profile,
    grey_to_srgb,
    lab_to_srgb,
    rgb_profile,
)
from tests.artifacts.test_decode import FORMATS, file_of

RAMP = np.linspace(0, 65535, 128).astype(np.uint16)[None].repeat(8, axis=0)
COLORS = np.array([[[200, 30, 60], [10, 120, 250], [128] * 3, [255] * 3]], np.uint8)
COLORS = COLORS.repeat(32, axis=0).repeat(16, axis=1)  # large areas, which lossy formats keep


def decoded(data: bytes, mode: Mode = "RGB", background: Background = "white") -> np.ndarray:
    """What an engine gets of the file."""
    array = decode_image(data, read_header(data), [mode], background)[mode].array
    return array.astype(int) if mode == "RGB" else array[:, :, 0].astype(int)


def png_of(rows: bytes, width: int, height: int, depth: int, kind: int, *chunks: bytes) -> bytes:
    """A PNG file of that depth and colour type, from rows that begin with their filter's number."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    made = [
        chunk(b"IHDR", header),
        *chunks,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def wide_rows(channels: int) -> bytes:
    """The ramp, in 16 bits and as many channels."""
    lines = RAMP[:, :, None].repeat(channels, axis=2).astype(">u2")
    return b"".join(b"\0" + line.tobytes() for line in lines)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_samples_of_16_bits_are_scaled_by_257(kind: int, channels: int, mode: Mode) -> None:
    """Grey and colour, as picture and as mask."""
    data = png_of(wide_rows(channels), 128, 8, 16, kind)
    wanted = np.round(RAMP / 257)
    found = decoded(data, mode)
    assert np.abs((found[:, :, 0] if mode == "RGB" else found) - wanted).max() <= 1


def test_alpha_of_16_bits_is_scaled_too() -> None:
    """Grey on white with itself as alpha."""
    share = RAMP / 65535
    wanted = np.round(255 * (share * share + 1 - share))
    found = decoded(png_of(wide_rows(2), 128, 8, 16, 4))[:, :, 0]
    assert np.abs(found - wanted).max() <= 2


@pytest.mark.parametrize(
    ("depth", "kind"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)]
)
def test_a_transparent_colour_is_found_in_every_depth(depth: int, kind: int) -> None:
    """Every sample is the largest one, which is transparent: on black nothing is left."""
    largest = struct.pack(">H", 2**depth - 1) * (1 if kind == 0 else 3)
    samples = b"\xff" * (8 * depth // 8 * (1 if kind == 0 else 3))
    data = png_of((b"\0" + samples) * 8, 8, 8, depth, kind, chunk(b"tRNS", largest))
    assert decoded(data, background="black").max() == 0
    opaque = png_of((b"\0" + samples) * 8, 8, 8, depth, kind)
    assert decoded(opaque, background="black").min() == 255


def test_of_a_grey_picture_in_16_bits_only_the_very_level_is_transparent() -> None:
    """Its neighbour stays."""
    rows = (b"\0" + struct.pack(">2H", 40_000, 40_001)) * 2
    found = decoded(png_of(rows, 2, 2, 16, 0, chunk(b"tRNS", struct.pack(">H", 40_000))))
    assert found[0, :, 0].tolist() == [255, 156]


@pytest.mark.parametrize("kind", FORMATS)
def test_colours_become_srgb_by_the_profile(kind: str) -> None:
    """The same in every format."""
    data = file_of(Image.fromarray(COLORS), kind, icc_profile=rgb_profile(), **best(kind))
    assert np.abs(decoded(data) - adobe_to_srgb(COLORS)).max() <= (
        1 if kind in {"PNG", "WEBP"} else 6
    )
    assert np.abs(COLORS.astype(int) - adobe_to_srgb(COLORS)).max() > 30


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_alpha_is_kept_beside_a_profile(kind: str) -> None:
    """Transparent is white, opaque is converted."""
    image = Image.fromarray(COLORS)
    image.putalpha(
        Image.fromarray(
            np.where(np.arange(32)[:, None] < 16, 0, 255).astype(np.uint8).repeat(64, axis=1)
        )
    )
    found = decoded(file_of(image, kind, icc_profile=rgb_profile(), **best(kind)))
    assert found[2].min() >= 252
    assert np.abs(found[29] - adobe_to_srgb(COLORS[29])).max() <= 6


def test_a_palette_becomes_srgb_too() -> None:
    """As the colours that it names."""
    data = file_of(Image.fromarray(COLORS).quantize(8), "PNG", icc_profile=rgb_profile())
    assert np.abs(decoded(data) - adobe_to_srgb(COLORS)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_becomes_srgb_by_its_profile(kind: str) -> None:
    """In eight bits; a mask of them too."""
    levels = np.array([[20, 90, 180, 255]], np.uint8).repeat(32, axis=0).repeat(16, axis=1)
    data = file_of(Image.fromarray(levels), kind, icc_profile=grey_profile(), **best(kind))
    assert np.abs(decoded(data) - grey_to_srgb(levels)).max() <= 2
    assert np.abs(decoded(data, "L") - grey_to_srgb(levels)[:, :, 0]).max() <= 2


def test_16_bits_with_a_profile() -> None:
    """First the one, then the other."""
    body = b"grey\0\0" + zlib.compress(grey_profile())
    data = png_of(wide_rows(1), 128, 8, 16, 0, chunk(b"iCCP", body))
    assert np.abs(decoded(data) - grey_to_srgb((RAMP / 257).round().astype(np.uint8))).max() <= 2


def test_inks_become_srgb_by_their_profile() -> None:
    """Cyan is what the profile says, not what Pillow guesses."""
    image = Image.new("CMYK", (32, 32), (255, 0, 0, 0))
    data = file_of(image, "JPEG", icc_profile=cmyk_profile(), quality=100)
    assert np.abs(decoded(data) - lab_to_srgb(*CYAN)).max() <= 3


@pytest.mark.parametrize(
    "profile", [b"broken" * 50, rgb_profile()[:200], grey_profile(), cmyk_profile()]
)
def test_a_profile_that_is_broken_or_of_other_channels_is_left_out(profile: bytes) -> None:
    """The numbers are taken as they are."""
    data = file_of(Image.fromarray(COLORS), "PNG", icc_profile=profile)
    assert np.array_equal(decoded(data), COLORS)


def test_a_profile_of_srgb_changes_nothing() -> None:
    """Not even by one."""
    random = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = file_of(Image.fromarray(random), "PNG", icc_profile=profile)
    assert np.array_equal(decoded(data), random)


@pytest.mark.parametrize("compressed", [True, False])
def test_text_of_a_png_file_does_not_matter(*, compressed: bool) -> None:
    """However long it is, in each kind of chunk."""
    texts = PngImagePlugin.PngInfo()
    for index in range(3):
        texts.add_text(f"workflow {index}", "a" * 1_500_000 + "\0", zip=compressed)
        texts.add_itxt(f"prompt {index}", "b" * 1_500_000, zip=compressed)
    data = file_of(Image.fromarray(COLORS), "PNG", pnginfo=texts, icc_profile=rgb_profile())
    assert np.abs(decoded(data) - adobe_to_srgb(COLORS)).max() <= 1


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("kind", FORMATS)
async def test_outputs_say_that_they_are_srgb(kind: str, channels: int) -> None:
    """By the chunk that PNG has for it, else by a profile, which is the same at any time; grey has none but in PNG."""
    encoder = Encoder(metadata=False)
    image = task_pb2.ImageTask(format=task_pb2.ImageFormat.Value(f"IMAGE_FORMAT_{kind}"))
    pixels = Pixels(array=np.ascontiguousarray(COLORS[:, :, :channels]))
    file = await encoder.encode(pixels, GenerateRequest(image=image), None)
    encoder.close()
    with Image.open(io.BytesIO(file.data)) as opened:
        if kind == "PNG":
            assert opened.info["srgb"] == 0
        elif channels > 1:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert np.abs(decoded(file.data) - COLORS[:, :, :channels]).mean() <= 3


def best(kind: str) -> dict[str, Any]:
    """Settings with which that format keeps most of an image."""
    if kind in {"PNG", "WEBP"}:
        return {}
    return {"quality": 100, "subsampling": "4:4:4"}
