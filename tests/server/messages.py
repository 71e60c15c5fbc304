"""Arbitrary messages of any type, made by walking its descriptor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_DEEPEST = 5
_WORDS = ("", "sketch", "a lighthouse", "image/png", "euler", "tiny", "x" * 9000, "\0", "'\"%s${A}")
_NUMBERS = (0, 1, 2, 7, 16, 64, 2**31 - 1)


def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    usual = [number for number in _NUMBERS if number <= high]
    return st.one_of(st.sampled_from([low, high, *usual]), st.integers(low, high))


_FLOATS = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5]), st.floats(width=32))
_SCALARS: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: lambda: _integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: lambda: _integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: lambda: _integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: lambda: _integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: lambda: _FLOATS,
    FieldDescriptor.CPPTYPE_FLOAT: lambda: _FLOATS,
    FieldDescriptor.CPPTYPE_BOOL: st.booleans,
}


def messages(kind: Descriptor, depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages of that type in which any field may be set to anything."""
    fields = [field for field in kind.fields if depth < _DEEPEST or field.message_type is None]
    if not fields:
        return st.just(GetMessageClass(kind)())
    chosen = st.lists(st.sampled_from(fields), unique_by=lambda field: field.number, max_size=5)
    return chosen.flatmap(
        lambda some: st.tuples(*(_values(field, depth) for field in some)).map(
            lambda values: _made(kind, some, values)
        )
    )


def _made(kind: Descriptor, fields: list[FieldDescriptor], values: tuple[Any, ...]) -> Message:
    message = GetMessageClass(kind)()
    for field, value in zip(fields, values, strict=True):
        if _is_map(field):
            _fill_map(getattr(message, field.name), field, value)
        elif field.is_repeated:
            getattr(message, field.name).extend(value)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


def _fill_map(target: Any, field: FieldDescriptor, entries: dict[Any, Any]) -> None:  # noqa: ANN401 (a map field has no type of its own)
    if _entry(field)["value"].message_type is None:
        target.update(entries)
        return
    for name, value in entries.items():
        target[name].CopyFrom(value)


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if _is_map(field):
        keys = _single(_entry(field)["key"], depth + 1)
        values = _single(_entry(field)["value"], depth + 1)
        return st.dictionaries(keys, values, max_size=3)
    if field.is_repeated:
        return st.lists(_single(field, depth + 1), max_size=3)
    return _single(field, depth + 1)


def _single(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth)
    if field.enum_type is not None:
        known = [value.number for value in field.enum_type.values]
        return st.one_of(st.sampled_from(known), _integers(-(2**31), 2**31 - 1))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=200)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.one_of(st.sampled_from(_WORDS), st.text(max_size=30))
    return _SCALARS[field.cpp_type]()


def _entry(field: FieldDescriptor) -> Mapping[str, FieldDescriptor]:
    """Key and value of a map."""
    assert field.message_type is not None
    return field.message_type.fields_by_name


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with a few of them changed, taken out or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data[place : place + cut] = draw(st.binary(max_size=3))
    return bytes(data)
