"""Reads single fields of messages: optional ones, times, numbers, JSON values."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

_FLOAT = struct.Struct("<f")


def read_integer(pb: Message, field: str) -> int | None:
    """An optional whole number; None when it was not given."""
    return getattr(pb, field) if pb.HasField(field) else None


def read_number(pb: Message, field: str) -> float | None:
    """An optional number of 32 bits; None when it was not given."""
    return shortest_decimal(getattr(pb, field)) if pb.HasField(field) else None


def shortest_decimal(value: float) -> float:
    """The shortest decimal that is the same number in 32 bits: 7.2, not 7.199999809265137."""
    for digits in range(6, 9):
        shorter = float(f"{value:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(shorter)) == (value,):
            return shorter
    return value


def read_json(value: Value) -> object:
    """The JSON value; numbers without a fraction as integers, which Value cannot tell apart."""
    if value.WhichOneof("kind") == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    plain: object = MessageToDict(value)
    return plain


def read_time(pb: Message, field: str) -> datetime | None:
    """A time in UTC; None when it was not given."""
    if not pb.HasField(field):
        return None
    stamp: Timestamp = getattr(pb, field)
    return stamp.ToDatetime(tzinfo=UTC)


def read_seconds(pb: Message, field: str) -> float | None:
    """A duration in seconds; None when it was not given."""
    if not pb.HasField(field):
        return None
    duration: Duration = getattr(pb, field)
    return duration.seconds + duration.nanos / 1e9
