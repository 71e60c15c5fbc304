"""Decodes damaged images within a limit of memory: `python -m tests.artifacts.hostile_images SEED COUNT`.

Prints how many were decoded and how many refused. Ends by an exception or a signal where a decoder takes more than the
budget of its image, or fails in another way than `decode_image` says.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, PngImagePlugin

from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL
from atelier_engines.decoding.header import UndecodableError, read_header
from atelier_engines.decoding.pixels import decode_image

MAX_PIXELS = 10**6
_SIDE = 96
_OTHER_BYTES = 48 * 2**20  # stacks of threads, arenas of the allocator, the interpreter
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (0, 1, 4096, 16383, 65535)  # a width or a height, among others


def make_images() -> list[bytes]:
    """Good files: each format, in its variants."""
    chance = np.random.default_rng(7)
    colors = chance.integers(0, 256, (_SIDE, _SIDE, 4), dtype=np.uint8)
    whole = Image.fromarray(colors, "RGBA")
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "words " * 500, zip=True)
    text.add_itxt("title", "words " * 500, zip=True)
    variants: list[tuple[Image.Image, str, dict[str, object]]] = [
        (whole, "PNG", {"pnginfo": text}),
        (whole.convert("P"), "PNG", {"transparency": 3}),
        (whole.convert("I;16"), "PNG", {}),
        (whole.convert("1"), "PNG", {}),
        (whole.convert("RGB"), "JPEG", {}),
        (whole.convert("RGB"), "JPEG", {"progressive": True}),
        (whole.convert("CMYK"), "JPEG", {}),
        (
            whole.convert("L"),
            "JPEG",
            {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"},
        ),
        (whole, "WEBP", {"lossless": True}),
        (whole.convert("RGB"), "WEBP", {"quality": 50}),
        (whole, "WEBP", {"save_all": True, "append_images": [whole.rotate(90)]}),
        (whole, "AVIF", {"speed": 10}),
        (whole, "AVIF", {"speed": 10, "save_all": True, "append_images": [whole.rotate(90)]}),
    ]
    return [_save(*variant) for variant in variants]


def _save(image: Image.Image, form: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def damage(data: bytes, chance: random.Random) -> bytes:
    """The file with one to six places changed: single bytes, numbers of four bytes, parts moved or left out."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        # Most of what a decoder believes stands in the first bytes.
        place = chance.randrange(min(len(found), chance.choice((64, 512, len(found)))) or 1)
        match chance.randrange(4):
            case 0:
                found[place] = chance.randrange(256)
            case 1:
                found[place : place + 4] = chance.randrange(2**32).to_bytes(4)
            case 2:
                order: Literal["big", "little"] = chance.choice(("big", "little"))
                found[place : place + 2] = chance.choice(_NUMBERS).to_bytes(2, order)
            case _:
                size = chance.randrange(1, 64)
                found[place : place + size] = chance.choice((b"", bytes(found[place:][:size]) * 3))
    return _correct_checksums(found) if data.startswith(_PNG_SIGNATURE) else bytes(found)


def _correct_checksums(data: bytearray) -> bytes:
    """A PNG file whose damage no checksum tells of."""
    start = len(_PNG_SIGNATURE)
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4)
        start = end + 4
    return bytes(data)


def limit_memory() -> None:
    """Let this process have no more than the budget of one image beside what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    budget = MAX_PIXELS * DECODING_BYTES_PER_PIXEL + _OTHER_BYTES
    most = pages * resource.getpagesize() + budget
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def decode_all(seed: int, count: int) -> tuple[int, int]:
    """Decode so many damaged images; how many were decoded, and how many refused."""
    chance, images = random.Random(seed), make_images()
    decoded = refused = 0
    for good in images:  # what libraries load and allocate once
        decode_image(good, read_header(good), ("RGB", "L"), "white")
    limit_memory()
    for number in range(count):
        data = damage(images[number % len(images)], chance)
        try:
            header = read_header(data)
            if header.pixels <= MAX_PIXELS:
                decode_image(data, header, ("RGB", "L"), "white")
                decoded += 1
                continue
        except UndecodableError as error:
            if isinstance(error.__cause__, MemoryError):
                raise
        refused += 1
    return decoded, refused


if __name__ == "__main__":
    print(*decode_all(int(sys.argv[1]), int(sys.argv[2])))
