"""Headers tell what decoding gives, and images become what Pillow makes of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from atelier_engines.decoding.header import (
    UndecodableError,
    read_header,
    read_stored_size,
)
from atelier_engines.decoding.pixels import decode_image

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK", "YCbCr")
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def photo(size: tuple[int, int] = (57, 40)) -> Image.Image:
    """An image without any symmetry."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width]
    levels = [columns * 255 // width, rows * 255 // height, (rows * columns) % 256]
    return Image.fromarray(np.stack(levels, axis=2).astype(np.uint8))


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file, without loss where the format can."""
    file = io.BytesIO()
    if kind == "WEBP":
        options["lossless"] = True
    image.save(file, kind, **options)
    return file.getvalue()


def expected(data: bytes, mode: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What Pillow makes of the file: colours on white, grey on black, 16 bits scaled."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "I;16":
            upright = Image.fromarray(np.round(np.asarray(upright) / 257).astype(np.uint8))
        if upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "black" if mode == "L" else "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return np.asarray(upright.convert(mode))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(9))
def test_the_orientation_is_applied(kind: str, orientation: int) -> None:
    """Each one, of each format; what is no orientation counts as none."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = file_of(photo(), kind, exif=exif)
    header = read_header(data)
    decoded = decode_image(data, header, ["RGB", "L"])
    assert (header.format, read_stored_size(data)) == (kind, (57, 40))
    assert header.size == (decoded["RGB"].width, decoded["RGB"].height)
    assert np.array_equal(decoded["RGB"].array, expected(data, "RGB"))
    assert np.array_equal(decoded["L"].array[:, :, 0], expected(data, "L"))


def orientation_after_pixels() -> bytes:
    """A PNG whose EXIF chunk follows the image data."""
    plain = file_of(photo(), "PNG")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    length = (len(body) - 4).to_bytes(4)
    chunk = length + body + zlib.crc32(body).to_bytes(4)
    return plain[:-12] + chunk + plain[-12:]


def orientation_in_a_profile() -> bytes:
    """A PNG with EXIF in the way of ImageMagick."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    raw = exif.tobytes()
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    return file_of(photo(), "PNG", pnginfo=texts)


def orientation_in_xmp(kind: str) -> bytes:
    """A file that has its orientation in XMP alone."""
    if kind != "PNG":
        return file_of(photo(), kind, xmp=XMP.encode())
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP)
    return file_of(photo(), kind, pnginfo=texts)


@pytest.mark.parametrize(
    "data",
    [
        orientation_after_pixels(),
        orientation_in_a_profile(),
        *(orientation_in_xmp(kind) for kind in FORMATS),
    ],
    ids=["after pixels", "profile", *(f"xmp {kind}" for kind in FORMATS)],
)
def test_the_orientation_is_found_wherever_it_is(data: bytes) -> None:
    """As Pillow finds it."""
    header = read_header(data)
    assert header.orientation == 6
    assert np.array_equal(decode_image(data, header, ["RGB"])["RGB"].array, expected(data, "RGB"))


def image_of(mode: str) -> Image.Image:
    """An image of that mode."""
    image = photo((1500, 1000)) if mode in {"RGB", "P", "L"} else photo()
    if mode in {"RGBA", "LA"}:
        image.putalpha(image.getchannel("R"))
    return image.convert(mode)


def writes(kind: str, mode: str) -> bool:
    """Whether there are files of that format with images of that mode."""
    try:
        file_of(image_of(mode), kind)
    except (OSError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind in FORMATS for mode in MODES if writes(kind, mode)]
)
def test_images_of_every_kind_are_converted_in_strips(kind: str, mode: str) -> None:
    """As a whole image would be; this one has several strips."""
    options = {"transparency": 3} if mode == "P" else {}
    data = file_of(image_of(mode), kind, **options)
    found = decode_image(data, read_header(data), ["RGB", "L"])
    assert np.array_equal(found["RGB"].array, expected(data, "RGB"))
    assert np.array_equal(found["L"].array[:, :, 0], expected(data, "L"))


@pytest.mark.parametrize("kind", FORMATS)
def test_no_beginning_of_a_file_is_whole(kind: str) -> None:
    """Wherever it is cut."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    data = file_of(photo(), kind, exif=exif)
    for length in range(len(data)):
        with pytest.raises(UndecodableError):
            read_header(data[:length])
        read_stored_size(data[:length])


@pytest.mark.parametrize("kind", FORMATS)
def test_bytes_after_the_image_do_not_matter(kind: str) -> None:
    """As in what cameras append to JPEG files."""
    data = file_of(photo(), kind)
    if kind == "AVIF":
        data += (12).to_bytes(4) + b"free" + bytes(4)
    else:
        data += b"appended"
    assert read_header(data).size == (57, 40)


def test_a_progressive_image_is_whole_at_its_end_alone() -> None:
    """A cut between two scans is a cut."""
    data = file_of(photo((200, 200)), "JPEG", progressive=True)
    assert read_header(data).size == (200, 200)
    with pytest.raises(UndecodableError, match="truncated"):
        read_header(data[: data.rfind(b"\xff\xda")])


def test_the_canvas_of_an_animation_is_its_size() -> None:
    """Whatever the size of its frames: the decoder needs memory for the canvas."""
    frames = [Image.new("RGB", (4000, 3000), "red") for _ in range(2)]
    data = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert len(data) < 2**17
    assert (read_header(data).size, read_stored_size(data[:64])) == ((4000, 3000), (4000, 3000))


def test_an_image_that_is_not_what_its_header_says_is_damaged() -> None:
    """The memory was counted from the header."""
    small, large = (file_of(photo((side, side)), "PNG") for side in (16, 32))
    with pytest.raises(UndecodableError, match="damaged"):
        decode_image(large, read_header(small), ["RGB"])


def chunk(name: bytes, body: bytes, *, wrong: int = 0) -> bytes:
    """A chunk of a PNG file, or with a wrong checksum."""
    return (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body) ^ wrong)
    )


@pytest.mark.parametrize(
    "extra",
    [
        *(
            chunk(name, b"")
            for name in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"tIME", b"vpAg", b"acTL")
        ),
        chunk(b"gAMA", struct.pack(">I", 45455), wrong=1),
        chunk(b"eXIf", b"MM", wrong=1),
        chunk(b"caBX", bytes(2**21)),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_chunks_beside_the_pixels_do_not_matter(extra: bytes) -> None:
    """Empty, with a wrong checksum, or huge: other readers show these files."""
    data = file_of(photo(), "PNG")
    start = data.index(b"IHDR") + 21
    odd = data[:start] + extra + data[start:]
    found = decode_image(odd, read_header(odd), ["RGB"])
    assert np.array_equal(found["RGB"].array, np.asarray(photo()))


@pytest.mark.parametrize("between", [b"\0\0", b"ab", b"\xff\0", b"\xff\xff\xff"])
def test_bytes_between_the_segments_of_a_jpeg_file_are_skipped(between: bytes) -> None:
    """As libjpeg does."""
    data = file_of(photo(), "JPEG")
    start = 4 + int.from_bytes(data[4:6])
    odd = data[:start] + between + data[start:]
    found = decode_image(odd, read_header(odd), ["RGB"])
    assert np.array_equal(found["RGB"].array, expected(data, "RGB"))
