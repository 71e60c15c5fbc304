"""Messages as the HTTP port reads and writes them: protobuf, or JSON in which no misspelt field is overlooked.

The library's codecs decode before anything of ours has run, drop fields that they do not know, and answer malformed
messages in their own words. So the codecs given to it pass bytes through, and the service's side converts them.
Source: findings/connectrpc-drops-unknown-json-fields.sh.
"""

from __future__ import annotations

import asyncio
from typing import cast

from google.protobuf import json_format
from google.protobuf.message import Message

from atelier_server.errors import TooLargeError
from atelier_server.rpc.connect.json_requests import parse_request
from atelier_server.rpc.inline_outputs import SerializedResponse
from atelier_server.rpc.message_size import MAX_STRUCTURED_BYTES

_MAX_JSON_ELEMENTS = 2**16
_ELEMENT_MARKS = (b",", b":", b"{", b"[")
_THREAD_BYTES = 2**14  # from which JSON is converted beside the event loop; a MiB takes 5 ms


class IncomingMessage:
    """The bytes of a message that has arrived; they are gone once they are taken."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        """Hold them."""
        self._data = data

    def take(self) -> bytes:
        """The bytes, which are held no longer."""
        data, self._data = self._data, b""
        return data


class PassingCodec:
    """What the library decodes and encodes messages with: it leaves both to the service's side."""

    def __init__(self, name: str) -> None:
        """Of the content types that end in this name."""
        self._name = name

    def name(self) -> str:
        """The end of the content type."""
        return self._name

    def encode(self, message: bytes) -> bytes:
        """The message, which is encoded already."""
        return message

    def decode(self, data: bytes | bytearray, _: type[IncomingMessage]) -> IncomingMessage:
        """The message, not decoded yet."""
        return IncomingMessage(bytes(data))


async def json_to_proto(data: bytes, kind: type[Message]) -> bytes:
    """A request in JSON, as protobuf.

    Raises:
        InvalidRequestError: it is no JSON, or no message of this kind; names the field if it can.
        TooLargeError: it has too many elements.
    """
    if len(data) < _THREAD_BYTES:
        return parse_request(data, kind)
    if (
        len(data) > MAX_STRUCTURED_BYTES
        and sum(map(data.count, _ELEMENT_MARKS)) > _MAX_JSON_ELEMENTS
    ):
        raise TooLargeError(
            f"the request has more than {_MAX_JSON_ELEMENTS} elements; shorten its options, or send application/proto"
        )
    return await asyncio.to_thread(parse_request, data, kind)


async def encode(message: object, kind: type[Message], *, as_json: bool) -> bytes:
    """A response of this kind, or one that is serialized already, as JSON or protobuf."""
    if not as_json:
        if isinstance(message, SerializedResponse):
            return message.data
        return cast("Message", message).SerializeToString()
    if isinstance(message, SerializedResponse):
        return await asyncio.to_thread(_write_serialized, message.data, kind)
    response = cast("Message", message)
    if response.ByteSize() < _THREAD_BYTES:
        return _write(response)
    return await asyncio.to_thread(_write, response)


def _write(message: Message) -> bytes:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _write_serialized(data: bytes, kind: type[Message]) -> bytes:
    return _write(kind.FromString(data))
