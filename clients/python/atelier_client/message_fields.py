"""Reads fields of messages: optional ones, times, durations, numbers, JSON values."""

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
    """An optional integer; None when it is not set."""
    return getattr(pb, field) if pb.HasField(field) else None


def read_number(pb: Message, field: str) -> float | None:
    """An optional 32-bit float; None when it is not set."""
    return shortest_decimal(getattr(pb, field)) if pb.HasField(field) else None


def shortest_decimal(value: float) -> float:
    """The shortest decimal of a 32-bit float: 7.2 instead of 7.199999809265137."""
    for digits in range(6, 9):
        shorter = float(f"{value:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(shorter)) == (value,):
            return shorter
    return value


def read_json(value: Value) -> object:
    """A JSON value; numbers without a fraction become integers, as Value has only doubles."""
    if value.WhichOneof("kind") == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    plain: object = MessageToDict(value)
    return plain


def read_time(pb: Message, field: str) -> datetime | None:
    """A timestamp in UTC; None when it is not set."""
    if not pb.HasField(field):
        return None
    stamp: Timestamp = getattr(pb, field)
    return stamp.ToDatetime(tzinfo=UTC)


def read_seconds(pb: Message, field: str) -> float | None:
    """A duration in seconds; None when it is not set."""
    if not pb.HasField(field):
        return None
    duration: Duration = getattr(pb, field)
    return duration.seconds + duration.nanos / 1e9
