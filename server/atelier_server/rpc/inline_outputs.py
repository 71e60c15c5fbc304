"""Responses that hold the bytes of outputs, as they go onto the wire.

A message copies the bytes that are put into it, and again when it is serialized. So only the rest of such a response is
ever a message: its bytes are joined with those of the outputs, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from google.protobuf.message import Message

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import Generation, Output

_LENGTH_DELIMITED = 2  # wire type
_MORE = 0x80  # set in each byte of a varint but the last

ResponseT = TypeVar(
    "ResponseT", bound=pb.GenerateResponse | pb.GetGenerationResponse | pb.StreamProgressResponse
)
"""A response with a field `generation`."""


@dataclass(frozen=True, slots=True)
class SerializedResponse:
    """A response that needs no serializer."""

    data: bytes


def list_fitting(generation: Generation, max_bytes: int) -> list[Artifact | None]:
    """For each output its artifact, or None where its bytes do not fit beside those before it."""
    fitting: list[Artifact | None] = []
    left = max_bytes
    for output in generation.outputs:
        fits = output.artifact.size <= left
        left -= output.artifact.size if fits else 0
        fitting.append(output.artifact if fits else None)
    return fitting


def serialize_with_outputs(response: ResponseT, contents: Sequence[bytes | None]) -> ResponseT:
    """The response with these bytes as `data` of its generation's outputs; None for an output without.

    Returns a SerializedResponse, which stands for any response that a handler returns. The one given is taken apart.
    The fields are in another order than a serializer writes, which every parser accepts.
    Source: https://protobuf.dev/programming-guides/encoding/ (length-delimited fields, order of fields).
    """
    generation = _split_generation(response.generation, contents)
    response.ClearField("generation")
    joined = [response.SerializeToString(), *_delimit(type(response), "generation", generation)]
    return cast("ResponseT", SerializedResponse(b"".join(joined)))


def _split_generation(generation: Generation, contents: Sequence[bytes | None]) -> list[bytes]:
    """The bytes of the generation in parts, each of the contents in one of its own."""
    outputs = [output.SerializeToString() for output in generation.outputs]
    del generation.outputs[:]
    parts = [generation.SerializeToString()]
    for output, data in zip(outputs, contents, strict=True):
        parts += _delimit(Generation, "outputs", [output, *_delimit(Output, "data", [data or b""])])
    return parts


def _delimit(message: type[Message], field: str, value: Sequence[bytes]) -> list[bytes]:
    """The field with this value; nothing if that is empty."""
    size = sum(map(len, value))
    if not size:
        return []
    tag = message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED
    return [_varint(tag), _varint(size), *value]


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= _MORE:
        encoded.append(value % _MORE | _MORE)
        value //= _MORE
    encoded.append(value)
    return bytes(encoded)
