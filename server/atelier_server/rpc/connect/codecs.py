"""Messages as the HTTP port reads and writes them: protobuf, or JSON in which no misspelt field is overlooked.

The library's codecs decode before anything of ours has run, drop fields that they do not know, and answer malformed
messages in their own words. So the codecs given to it pass bytes through, and the service's side converts them.
Source: findings/connectrpc-drops-unknown-json-fields.sh.
"""

from __future__ import annotations

import asyncio
import re
from typing import cast

from google.protobuf import json_format
from google.protobuf.message import Message

from atelier_engines.suggestions import suggest
from atelier_server.errors import InvalidRequestError, TooLargeError, Violation
from atelier_server.rpc.inline_outputs import SerializedResponse
from atelier_server.rpc.message_size import MAX_STRUCTURED_BYTES

_MAX_JSON_ELEMENTS = 2**16
_ELEMENT_MARKS = (b",", b":", b"{", b"[")
_THREAD_BYTES = 2**14  # from which JSON is converted beside the event loop; a MiB takes 5 ms
_UNKNOWN = re.compile(r'has no field named "(?P<name>[^"]*)" at "\w+\.?(?P<path>[^"]*)"')
_PLACE = re.compile(r'(?P<message>.*) at "?\w+\.(?P<path>[\w.\[\]]+)"?\.*$', re.DOTALL)
_FIELD = re.compile(r"(?:Failed to parse (?P<field>\w+) field: )+(?P<message>.*)", re.DOTALL)


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
        return _parse(data, kind)
    if (
        len(data) > MAX_STRUCTURED_BYTES
        and sum(map(data.count, _ELEMENT_MARKS)) > _MAX_JSON_ELEMENTS
    ):
        raise TooLargeError(
            f"the request has more than {_MAX_JSON_ELEMENTS} elements; shorten its options, or send application/proto"
        )
    return await asyncio.to_thread(_parse, data, kind)


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


def _parse(data: bytes, kind: type[Message]) -> bytes:
    if not data.lstrip().startswith(b"{"):
        raise InvalidRequestError([Violation("request", "must be a JSON object")])
    try:
        return json_format.Parse(data, kind()).SerializeToString()
    except (ValueError, json_format.ParseError, RecursionError) as error:
        raise InvalidRequestError([_describe(error, kind)]) from None


def _write(message: Message) -> bytes:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _write_serialized(data: bytes, kind: type[Message]) -> bytes:
    return _write(kind.FromString(data))


def _describe(error: Exception, kind: type[Message]) -> Violation:
    """What is wrong with the JSON, from the words of protobuf's parser, and the field that they name."""
    text = str(error).rstrip(".")
    if "recursion depth" in text:
        return Violation("request", "is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Violation("request", "must be UTF-8")
    if unknown := _UNKNOWN.search(text):
        return _describe_unknown(unknown["name"], unknown["path"], kind)
    found = _FIELD.match(text)
    message = found["message"] if found else text
    if place := _PLACE.match(message):
        return Violation(place["path"], place["message"])
    if found:
        return Violation(found["field"], "does not take this value")
    return Violation("request", f"is not JSON of this message: {message}")


def _describe_unknown(name: str, path: str, kind: type[Message]) -> Violation:
    """Of a field that does not exist: where it stands, and the most similar one."""
    descriptor = kind.DESCRIPTOR
    steps = path.split(".") if path else []
    for step in steps:
        field = descriptor.fields_by_camelcase_name.get(step.partition("[")[0])
        if field is None or field.message_type is None:
            break
        descriptor = field.message_type
    known = [field.json_name for field in descriptor.fields]
    return Violation(".".join([*steps, name]), f"there is no such field{suggest(name, known)}")
