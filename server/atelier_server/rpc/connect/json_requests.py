"""Requests in JSON, of which nothing misspelt, mistyped or cut is overlooked: what is wrong is named by its path.

protobuf's own parser takes Base64 with any other characters in between, and names fields without those around them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from atelier_engines.suggestions import suggest
from atelier_server.errors import InvalidRequestError, Violation

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_BASE64_GROUP = 4
_WELL_KNOWN = "google.protobuf."
_WORDS_OF_MESSAGES = {
    "google.protobuf.Duration": 'must be text such as "1.5s"',
    "google.protobuf.Timestamp": 'must be text such as "2026-01-31T12:00:00Z"',
}
_WORDS = {
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "must be a number",
    FieldDescriptor.CPPTYPE_FLOAT: "must be a number that a 32-bit float can hold",
    FieldDescriptor.CPPTYPE_INT32: "must be a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "must be a whole number of 64 bits",
    FieldDescriptor.CPPTYPE_STRING: "must be text in quotes, in Unicode",
    FieldDescriptor.CPPTYPE_UINT32: f"must be a whole number from 0 to {2**32 - 1}",
    FieldDescriptor.CPPTYPE_UINT64: f"must be a whole number from 0 to {2**64 - 1}",
}
_Document: TypeAlias = "dict[str, Any]"  # whatever JSON says


def parse_request(data: bytes, kind: type[Message]) -> bytes:
    """The request as protobuf.

    Raises:
        InvalidRequestError: it is no JSON, or no message of this kind; names the field if it can.
    """
    document: _Document = {}
    try:
        document = _load(data)
        _check_values(document, kind, "")
        return json_format.ParseDict(document, kind()).SerializeToString()
    except RecursionError:
        wrong = Violation("request", "is nested too deeply")
    except json_format.ParseError as error:
        if "recursion depth" in str(error):
            wrong = Violation("request", "is nested too deeply")
        else:
            wrong = _find_wrong(document, kind, "") or _describe_whole(error)
    raise InvalidRequestError([wrong])


def _load(data: bytes) -> _Document:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError([Violation("request", "must be UTF-8")]) from None
    try:
        document = json.loads(text, object_pairs_hook=_refuse_repeated) if text.strip() else None
    except ValueError as error:
        raise InvalidRequestError([Violation("request", f"is not JSON: {error}")]) from None
    if not isinstance(document, dict):
        raise InvalidRequestError([Violation("request", "must be a JSON object")])
    return document


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidRequestError([Violation(repeated, "is given twice in one object")])
    return document


def _check_values(document: _Document, kind: type[Message], path: str) -> None:
    """Check what protobuf's parser does not: that bytes are Base64, and that messages are objects.

    Base64 has the standard alphabet or that of URLs, with padding or without.

    Raises:
        InvalidRequestError: one is not.
    """
    for name, value in document.items():
        field = _find_field(kind, name)
        if field is None or value is None:
            continue
        for place, one in _values_of(field, value, f"{path}{name}"):
            of_value = _value_field(field)
            if of_value.type == FieldDescriptor.TYPE_BYTES and isinstance(one, str):
                if not _is_base64(one):
                    raise InvalidRequestError([Violation(place, "must be Base64")])
            elif isinstance(one, (str, list)) and _is_own(of_value):
                raise InvalidRequestError([Violation(place, "must be an object")])
            elif of_value.message_type is not None and isinstance(one, dict):
                _check_values(one, GetMessageClass(of_value.message_type), f"{place}.")


def _is_base64(text: str) -> bool:
    if not _BASE64.fullmatch(text):
        return False
    left = len(text) % _BASE64_GROUP
    return left == 0 if text.endswith("=") else left != 1


def _find_wrong(document: _Document, kind: type[Message], path: str) -> Violation | None:
    """The first field that cannot be read, in the innermost message; None if each of them can."""
    for name, value in document.items():
        field = _find_field(kind, name)
        if field is None:
            known = [each.json_name for each in kind.DESCRIPTOR.fields]
            return Violation(f"{path}{name}", f"there is no such field{suggest(name, known)}")
        if not _can_be_read({name: value}, kind):
            return _find_wrong_value(field, value, kind, f"{path}{name}")
    return None


def _find_wrong_value(
    field: FieldDescriptor, value: object, kind: type[Message], path: str
) -> Violation:
    if field.is_repeated and not isinstance(value, dict if _is_map(field) else list):
        return Violation(path, f"must be {'an object' if _is_map(field) else 'a list'}")
    of_value = _value_field(field)
    for place, one in _values_of(field, value, path):
        if of_value.message_type is not None and isinstance(one, dict):
            inner = GetMessageClass(of_value.message_type)
            if _is_own(of_value) and (found := _find_wrong(one, inner, f"{place}.")) is not None:
                return found
        elif not field.is_repeated or _is_map(field) or not _can_be_read({field.name: [one]}, kind):
            return Violation(place, _describe(of_value))
    return Violation(path, _describe(of_value))


def _can_be_read(document: _Document, kind: type[Message]) -> bool:
    try:
        json_format.ParseDict(document, kind())
    except (json_format.ParseError, RecursionError):
        return False
    return True


def _describe(field: FieldDescriptor) -> str:
    """What a value of the field must be."""
    if field.enum_type is not None:
        return f"must be one of {', '.join(value.name for value in field.enum_type.values[1:])}"
    if field.message_type is not None:
        return _WORDS_OF_MESSAGES.get(field.message_type.full_name, "must be an object")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "must be text in quotes, in Base64"
    return _WORDS[field.cpp_type]


def _describe_whole(error: Exception) -> Violation:
    """What is wrong where each field is right: two of a oneof, for instance."""
    return Violation("request", f"is no such message: {str(error).rstrip('.')}")


def _find_field(kind: type[Message], name: str) -> Any:  # noqa: ANN401 (of two types of protobuf)
    fields = kind.DESCRIPTOR
    return fields.fields_by_camelcase_name.get(name) or fields.fields_by_name.get(name)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_own(field: FieldDescriptor) -> bool:
    """Whether its values are messages that JSON writes as objects of their fields."""
    kind = field.message_type
    return kind is not None and not kind.full_name.startswith(_WELL_KNOWN)


def _value_field(field: FieldDescriptor) -> FieldDescriptor:
    """What describes one value: of a map, the field of its values."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and _is_map(field) else field


def _values_of(field: FieldDescriptor, value: object, path: str) -> Iterable[tuple[str, Any]]:
    """The values in the field, with their paths."""
    if not field.is_repeated:
        return [(path, value)]
    if _is_map(field):
        found = value if isinstance(value, dict) else {}
        return [(f'{path}["{key}"]', one) for key, one in found.items()]
    items = value if isinstance(value, list) else []
    return [(f"{path}[{index}]", one) for index, one in enumerate(items)]
