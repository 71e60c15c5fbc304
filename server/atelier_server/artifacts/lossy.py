"""Writes JPEG, WebP and AVIF files. Blocking: call it in a thread."""

from __future__ import annotations

import io
from typing import Literal, TypeAlias

from atelier_engines.imaging import image_from_pixels
from atelier_engines.media import Pixels
from atelier_server.artifacts.metadata import exif_with, xmp_with
from atelier_server.artifacts.provenance import Provenance

LossyFormat: TypeAlias = Literal["JPEG", "WEBP", "AVIF"]

# Chosen for pictures that are looked at closely and worked on: errors that nobody sees side by side.
# Halved colour (4:2:0) frays red on white, which models like to paint: at 1024 px the worst 32 px of a sheet of
# coloured things have 27 dB, against 33 dB with full colour, at a third more bytes. WebP knows no other.
_SETTINGS: dict[LossyFormat, dict[str, int | str]] = {
    "JPEG": {"quality": 92},
    # Method 2 takes a third more time than 0 for up to 30 % fewer bytes, half the time of the default for 3 % more.
    "WEBP": {"quality": 92, "method": 2},
    # Speed 8 takes four times as long for 1 to 20 % fewer bytes, 6 eight times or more; 10 is no
    # faster.
    # One thread: the number of threads changes the tiles, and so the bytes; other pictures have the other cores.
    "AVIF": {"quality": 90, "speed": 9, "max_threads": 1},
}
_COLOUR = {"JPEG": "4:4:4", "AVIF": "4:4:4"}
_JPEG_EXIF_BYTES = 65_533  # what a segment of a JPEG file holds
_JPEG_XMP_BYTES = _JPEG_EXIF_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")


def lossy_from_pixels(pixels: Pixels, form: LossyFormat, provenance: Provenance | None) -> bytes:
    """The picture as such a file, with what is known of its making.

    JPEG holds 64 KiB of EXIF and as much XMP; the one that is longer is left out. That takes two prompts of the
    greatest length, most of it in characters beyond Unicode's first 65,536.
    """
    settings: dict[str, int | str | bytes] = {**_SETTINGS[form]}
    if pixels.array.shape[2] > 1 and form in _COLOUR:
        settings["subsampling"] = _COLOUR[form]
    if provenance is not None:
        settings |= _metadata(form, provenance)
    file = io.BytesIO()
    image_from_pixels(pixels).save(file, form, **settings)
    return file.getvalue()


def _metadata(form: LossyFormat, provenance: Provenance) -> dict[str, bytes]:
    exif, xmp = exif_with(provenance.parameters), xmp_with(provenance.record)
    metadata = {}
    if form != "JPEG" or len(exif) <= _JPEG_EXIF_BYTES:
        metadata["exif"] = exif
    if form != "JPEG" or len(xmp) <= _JPEG_XMP_BYTES:
        metadata["xmp"] = xmp
    return metadata
