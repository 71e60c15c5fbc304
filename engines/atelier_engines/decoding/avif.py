"""Reads the boxes of an AVIF file: the sizes that it states, and where its AV1 data are.

Sources: ISO/IEC 14496-12, 4.2 (boxes), 8.7 (tracks), 8.11 (items); ISO/IEC 23008-12, 6.5.3 (ispe).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

Place = tuple[int, int]
"""Start and end in the file."""

_MAX_BOXES = 2**18
_NOWHERE = (0, 0)
_VERSION_BYTES = 4  # version and flags of a full box
_SAMPLES = (b"mdia", b"minf", b"stbl")
_SHORT_ID, _LONG_ID = 2, 3  # versions of an item's entry, by the length of its id


def find_stated_size(data: bytes, *, whole: bool) -> tuple[int, int]:
    """The largest size that the file states; that of a thumbnail is smaller than that of the main image.

    Raises:
        IndexError, struct.error: the boxes are damaged, or not `whole`.
    """
    properties = _find(data, _find_meta(data, whole=whole), b"iprp", b"ipco")
    sizes = [
        struct.unpack_from(">4xII", data, place)
        for name, (place, _) in _list_boxes(data, properties)
        if name == b"ispe"
    ]
    return max(sizes, key=math.prod, default=(0, 0))


def list_payloads(data: bytes) -> Iterator[bytes]:
    """The AV1 data of each item, and of the first frame of each track, which may be that of an item.

    Raises:
        IndexError, struct.error: the boxes are damaged, or data belong to several items.
    """
    left = len(data)
    meta = _find_meta(data, whole=True)
    items = set(_list_av1_items(data, _find(data, meta, b"iinf")))
    base, _ = _find(data, meta, b"idat")
    for item, in_meta, extents in _list_extents(data, _find(data, meta, b"iloc")):
        if item not in items:
            continue
        left -= sum(length or len(data) for _, length in extents)
        if left < 0:
            raise IndexError(item)
        start = base if in_meta else 0
        yield b"".join(_cut(data, start + offset, length) for offset, length in extents)
    for name, track in _list_boxes(data, _find(data, (0, len(data)), b"moov")):
        if name == b"trak":
            yield _read_first_sample(data, _find(data, track, *_SAMPLES))


def _find_meta(data: bytes, *, whole: bool) -> Place:
    boxes = _list_boxes(data, (0, len(data)), whole=whole)
    start, end = next((place for name, place in boxes if name == b"meta"), _NOWHERE)
    return min(start + _VERSION_BYTES, end), end


def _find(data: bytes, place: Place, *path: bytes) -> Place:
    """The content of a box in boxes; (0, 0) if there is none."""
    for wanted in path:
        boxes = _list_boxes(data, place)
        place = next((found for name, found in boxes if name == wanted), _NOWHERE)
    return place


def _list_boxes(data: bytes, place: Place, *, whole: bool = True) -> Iterator[tuple[bytes, Place]]:
    """Name and content of each box; those of the file may end after the data, if these are not `whole`."""
    start, end = place
    for _ in range(_MAX_BOXES):
        if start >= end:
            return
        length, name = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, content)
            content += 8
        stop = start + length if length else end
        if stop < content or (stop > end and (whole or name == b"meta")):
            raise IndexError(name)
        yield name, (content, stop)
        start = stop
    raise IndexError(_MAX_BOXES)


def _list_av1_items(data: bytes, place: Place) -> Iterator[int]:
    start, end = place
    if start == end:
        return
    start += _VERSION_BYTES + (4 if data[start] else 2)
    for _, (entry, _) in _list_boxes(data, (start, end)):
        version = data[entry]
        if version not in {_SHORT_ID, _LONG_ID}:
            raise IndexError(version)
        form = ">4xH2x4s" if version == _SHORT_ID else ">4xI2x4s"
        item, kind = struct.unpack_from(form, data, entry)
        if kind == b"av01":
            yield item


def _list_extents(data: bytes, place: Place) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Of each item its number, whether it lies in the box idat, and offset and length of its parts."""
    start, end = place
    if start == end:
        return
    version, sizes, bases = struct.unpack_from(">B3xBB", data, start)
    offset_bytes, length_bytes = sizes >> 4, sizes & 15
    base_bytes, index_bytes = bases >> 4, bases & 15 if version else 0
    id_bytes = 2 if version < 2 else 4  # noqa: PLR2004 (the versions have only numbers)
    numbers = _Numbers(data, start + 6)
    for _ in range(numbers.read(id_bytes)):
        item = numbers.read(id_bytes)
        method = numbers.read(2) & 15 if version else 0
        numbers.read(2)  # where its data are: in this file
        base = numbers.read(base_bytes)
        extents, count = [], numbers.read(2)
        if count > 1 and not sizes:
            raise IndexError(item)  # parts without place and length
        for _ in range(count):
            numbers.read(index_bytes)
            extents.append((base + numbers.read(offset_bytes), numbers.read(length_bytes)))
        yield item, method == 1, extents


class _Numbers:
    """Reads numbers of some bytes."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def read(self, count: int) -> int:
        part = _cut(self._data, self._position, count) if count else b""
        self._position += count
        return int.from_bytes(part)


def _read_first_sample(data: bytes, table: Place) -> bytes:
    """The first sample of a track, from the tables of sizes and chunks."""
    sizes, _ = _find(data, table, b"stsz")
    size, count = struct.unpack_from(">4xII", data, sizes)
    if not count:
        return b""
    if not size:
        (size,) = struct.unpack_from(">12xI", data, sizes)
    short, end = _find(data, table, b"stco")
    if short != end:
        (start,) = struct.unpack_from(">8xI", data, short)
    else:
        long, _ = _find(data, table, b"co64")
        (start,) = struct.unpack_from(">8xQ", data, long)
    return _cut(data, start, size)


def _cut(data: bytes, start: int, length: int) -> bytes:
    """So many bytes from there on; all of them if `length` is 0."""
    part = data[start : start + length] if length else data[start:]
    if len(part) < length:
        raise IndexError(start)
    return part
