"""Depths and profiles of input images: the engine gets sRGB in eight bits, and outputs say that they are sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from atelier.v1 import task_pb2
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.decoding.header import read_header
from atelier_engines.decoding.pixels import Background, Mode, decode_image
from atelier_engines.media import Pixels
from atelier_server.artifacts.encode import Encoder
from tests.artifacts.profiles import (
    CYAN,
    D50,
    adobe_to_srgb,
    cmyk_profile,
    encode_srgb,
    grey_profile,
    grey_to_srgb,
    lab_to_srgb,
    parametric_curve,
    rgb_profile,
    table_profile,
)
from tests.artifacts.readers.png_files import write_chunk, write_profile
from tests.artifacts.test_decode import FORMATS, file_of

Floats = NDArray[np.float64]

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
        write_chunk(b"IHDR", header),
        *chunks,
        write_chunk(b"IDAT", zlib.compress(rows)),
        write_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


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
    data = png_of((b"\0" + samples) * 8, 8, 8, depth, kind, write_chunk(b"tRNS", largest))
    assert decoded(data, background="black").max() == 0
    opaque = png_of((b"\0" + samples) * 8, 8, 8, depth, kind)
    assert decoded(opaque, background="black").min() == 255


def test_of_a_grey_picture_in_16_bits_only_the_very_level_is_transparent() -> None:
    """Its neighbour stays."""
    rows = (b"\0" + struct.pack(">2H", 40_000, 40_001)) * 2
    found = decoded(png_of(rows, 2, 2, 16, 0, write_chunk(b"tRNS", struct.pack(">H", 40_000))))
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
    data = png_of(wide_rows(1), 128, 8, 16, 0, write_profile(grey_profile()))
    assert np.abs(decoded(data) - grey_to_srgb((RAMP / 257).round().astype(np.uint8))).max() <= 2


CURVES: dict[str, tuple[tuple[float, ...], Callable[[Floats], Floats]]] = {
    "power": ((2.2,), lambda x: x**2.2),
    "power from a limit": ((2.0, 1.25, -0.25), lambda x: np.maximum(1.25 * x - 0.25, 0) ** 2),
    "power and constant": (
        (2.0, 1.0, -0.5, 0.125),
        lambda x: np.where(x >= 0.5, np.maximum(x - 0.5, 0) ** 2 + 0.125, 0.125),
    ),
    "power and line": (
        (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
        lambda x: np.where(x >= 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92),
    ),
    "all parameters": (
        (2.0, 0.75, 0.0, 0.25, 0.5, 0.4, 0.1),
        lambda x: np.where(x >= 0.5, (0.75 * x) ** 2 + 0.4, 0.25 * x + 0.1),
    ),
    "linear": ((1.0,), lambda x: x),
}


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_of_a_profile_is_computed_in_16_bits(name: str) -> None:
    """Dark levels of a linear image, of which 8 bits would leave a few, are all told apart."""
    values, formula = CURVES[name]
    levels = np.concatenate([np.arange(0, 512, 2), np.arange(512, 65536, 257)]).astype(np.uint16)
    rows = b"\0" + levels.astype(">u2").tobytes()
    data = png_of(
        rows, len(levels), 1, 16, 0, write_profile(grey_profile(parametric_curve(*values)))
    )
    wanted = encode_srgb(formula(levels / 65535)[:, None] * D50)
    assert np.abs(decoded(data)[0] - wanted).max() <= 1


def test_a_table_of_a_profile_counts_more_than_its_matrix() -> None:
    """In 8 and in 16 bits."""
    for depth in (8, 16):
        white = b"\0" + b"\xff" * (8 * 3 * depth // 8)
        data = png_of(white * 8, 8, 8, depth, 2, write_profile(table_profile()))
        assert np.abs(decoded(data) - lab_to_srgb(*CYAN)).max() <= 3


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
    file = await encoder.encode(pixels, GenerateRequest(image=image), lambda: None)
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
