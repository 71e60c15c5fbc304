"""How large the frames of AV1 data may be (AV1 Bitstream & Decoding Process Specification, 1.0.0 with errata 1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height."""

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of OBUs
_KEY_FRAME, _SWITCH_FRAME = 0, 3  # types of frames
_SELECT = 2  # by each frame for itself
_FRAME_HEADER_BYTES = 16  # in which it is said whether a frame has a size of its own
_MAX_UNITS = 2**18
_TIERED_LEVEL = 8  # from this level on there are tiers


class _Bits:
    """Reads numbers of some bits, the most significant one first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def read(self, count: int) -> int:
        """A number of so many bits.

        Raises:
            IndexError: there are not so many left.
        """
        start, self._position = self._position, self._position + count
        if self._position > 8 * len(self._data):
            raise IndexError(count)
        part = int.from_bytes(self._data[start // 8 : (self._position + 7) // 8])
        return part >> -self._position % 8 & (1 << count) - 1

    def read_variable(self) -> None:
        """Skip a number of variable length (4.10.3)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sequence:
    """What the frames of a sequence have in common."""

    largest: Size
    """Of its frames, unless one says otherwise."""
    size_bits: Size
    """With how many bits a frame says otherwise."""
    still: bool
    """It is one frame with a short header, which cannot say otherwise."""
    time_bits: int = 0
    """Of the time at which a frame is shown, if frames tell it."""
    id_bits: int = 0
    """Of a frame's id, if frames have one."""
    screen_tools: int = _SELECT
    integer_vectors: int = _SELECT


def find_largest_frame(payloads: Iterable[bytes]) -> Size:
    """The size that the frames of items and samples may have; (0, 0) if there are none.

    Raises:
        IndexError: one of them ends too early, or they have too many parts.
    """
    found = [(0, 0)]
    units = 0
    for data in payloads:
        sequence = None
        for kind, body in _list_units(data):
            units += 1
            if units > _MAX_UNITS:
                raise IndexError(units)
            if kind == _SEQUENCE_HEADER:
                sequence = _read_sequence(_Bits(body))
                found.append(sequence.largest)
            elif kind in {_FRAME_HEADER, _FRAME} and sequence is not None:
                found.append(_read_own_size(_Bits(body[:_FRAME_HEADER_BYTES]), sequence))
    return max(found, key=math.prod)


def _list_units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each OBU (5.3)."""
    position = 0
    while position < len(data):
        header = data[position]
        position += 2 if header & 4 else 1
        length = len(data) - position
        if header & 2:
            length, position = _read_length(data, position)
        yield header >> 3 & 15, data[position : position + length]
        position += length


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte (4.10.5), and the position after it."""
    length = 0
    for index in range(8):
        byte = data[position + index]
        length |= (byte & 127) << 7 * index
        if byte < 128:  # noqa: PLR2004 (its upper bit says that another one follows)
            return length, position + index + 1
    raise IndexError(position)


def _read_sequence(bits: _Bits) -> _Sequence:
    """The header of a sequence (5.5.1)."""
    bits.read(4)  # profile, still picture
    still, time_bits = bool(bits.read(1)), 0
    if still:
        bits.read(5)  # level
    else:
        time_bits = _read_operating_points(bits)
    size_bits = bits.read(4) + 1, bits.read(4) + 1
    largest = bits.read(size_bits[0]) + 1, bits.read(size_bits[1]) + 1
    if still:
        return _Sequence(largest=largest, size_bits=size_bits, still=still)
    id_bits = bits.read(4) + 2 + bits.read(3) + 1 if bits.read(1) else 0
    bits.read(7)  # blocks, filters, compound, warped motion, dual filter
    if bits.read(1):  # order hints
        bits.read(2)
    screen_tools = _SELECT if bits.read(1) else bits.read(1)
    integer_vectors = _SELECT
    if screen_tools:
        integer_vectors = _SELECT if bits.read(1) else bits.read(1)
    return _Sequence(
        largest=largest,
        size_bits=size_bits,
        still=still,
        time_bits=time_bits,
        id_bits=id_bits,
        screen_tools=screen_tools,
        integer_vectors=integer_vectors,
    )


def _read_operating_points(bits: _Bits) -> int:
    """Timing and operating points (5.5.1 to 5.5.5); how many bits the time of a frame has."""
    delay_bits = time_bits = 0
    equal_interval = False
    if bits.read(1):
        bits.read(64)  # unit, scale
        equal_interval = bool(bits.read(1))
        if equal_interval:
            bits.read_variable()
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(37)  # unit, length of removal times
            time_bits = bits.read(5) + 1
    initial_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) >= _TIERED_LEVEL:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if initial_delay and bits.read(1):
            bits.read(4)
    return 0 if equal_interval else time_bits


def _read_own_size(bits: _Bits, sequence: _Sequence) -> Size:
    """The most that a frame may have whose size is not its sequence's, else (0, 0) (5.9.2)."""
    if sequence.still or bits.read(1):  # a frame shown again has no header
        return 0, 0
    kind, shown = bits.read(2), bits.read(1)
    bits.read(sequence.time_bits if shown else 1)
    most = 1 << sequence.size_bits[0], 1 << sequence.size_bits[1]
    if kind == _SWITCH_FRAME:
        return most
    if not (kind == _KEY_FRAME and shown):
        bits.read(1)  # error resilience
    bits.read(1)  # no update of probabilities
    tools = bits.read(1) if sequence.screen_tools == _SELECT else sequence.screen_tools
    if tools and sequence.integer_vectors == _SELECT:
        bits.read(1)
    bits.read(sequence.id_bits)
    return most if bits.read(1) else (0, 0)
