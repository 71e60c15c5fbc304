"""Measures large requests before they are parsed: that takes a second for some MiB of options, and all else waits."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import generation_service_pb2 as pb

MAX_STRUCTURED_BYTES = 2**18
"""Bytes of a request beside attachments and chunks; prompts, LoRAs and sources of maximum length have half of it."""

_ENTRY_BYTES = 64  # that each attachment counts for, however small it is
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


def _number(message: type[pb.GenerateRequest | pb.UploadArtifactRequest], field: str) -> int:
    return message.DESCRIPTOR.fields_by_name[field].number


_ATTACHMENTS = _number(pb.GenerateRequest, "attachments")
_PAYLOADS: Mapping[str, tuple[int, ...]] = {
    "Generate": (_ATTACHMENTS,),
    "StreamProgress": (1, _ATTACHMENTS),
    "PlanGeneration": (1, _ATTACHMENTS),
    "UploadArtifact": (_number(pb.UploadArtifactRequest, "chunk"),),
}
"""By method, the numbers of the fields that lead to bytes which are passed on as they are."""


def count_structured_bytes(method: str, data: bytes) -> int:
    """Bytes of the request's message that a parser takes apart; counting ends above MAX_STRUCTURED_BYTES."""
    if len(data) <= MAX_STRUCTURED_BYTES:
        return len(data)
    try:
        return _count(memoryview(data), _PAYLOADS.get(method, ()))
    except IndexError:  # it ends within a field
        return len(data)


def _count(data: memoryview, payload: tuple[int, ...]) -> int:
    position = count = 0
    while position < len(data) and count <= MAX_STRUCTURED_BYTES:
        start = position
        tag, position = _read_varint(data, position)
        length, position = _read_length(data, position, tag & 7)
        end = position + length
        if payload and tag == payload[0] << 3 | _BYTES:
            count += position - start + _ENTRY_BYTES
            count += _count(data[position:end], payload[1:]) if payload[1:] else 0
        else:
            count += end - start
        position = end
    return count


def _read_length(data: memoryview, position: int, wire_type: int) -> tuple[int, int]:
    """Number of bytes of the field's value, and the position where it starts."""
    if wire_type == _BYTES:
        return _read_varint(data, position)
    if wire_type == _VARINT:
        return 0, _read_varint(data, position)[1]
    return _FIXED_BYTES.get(wire_type, 0), position


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte == byte & 0x7F:
            break
    return value, position
