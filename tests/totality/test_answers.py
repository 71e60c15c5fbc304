"""Everything that an answer of the server says is in what the client returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from atelier.v1 import generation_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import decoding, decoding_engines

ANSWERS: dict[type[Message], Callable[[Any], object]] = {
    pb.GetCapabilitiesResponse: decoding_engines.capabilities_from_pb,
    pb.HealthResponse: decoding.health_from_pb,
    pb.PlanGenerationResponse: decoding.plan_from_pb,
    pb.CancelGenerationResponse: decoding.cancellation_from_pb,
    pb.StreamProgressResponse: decoding.progress_from_pb,
    generation_pb2.Generation: decoding.generation_from_pb,
}
ENVELOPES: set[type[Message]] = {
    pb.GenerateResponse,
    pb.GetGenerationResponse,
    pb.ListGenerationsResponse,
    pb.UploadArtifactResponse,
    pb.DownloadArtifactResponse,
    pb.PauseEngineResponse,
    pb.ResumeEngineResponse,
    pb.ClearQueueResponse,
}
"""Answers that only hold a generation, an artifact or one value, and what the client itself uses up."""

USED_UP = {".repetition[0]"}
"""Fields that the client reads and delivers nothing of."""


def test_every_answer_is_tested() -> None:
    """A new call fails here until its answer is among them."""
    answers = {name for name in pb.DESCRIPTOR.message_types_by_name if name.endswith("Response")}
    assert answers == {
        kind.DESCRIPTOR.name for kind in (*ANSWERS, *ENVELOPES) if "Response" in kind.__name__
    }


@pytest.mark.parametrize("task", ["image", "audio"])
@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_every_value_of_an_answer_is_in_the_result(kind: type[Message], task: str) -> None:
    """Each field has a value that no other has; a field of the contract that is not read fails here."""
    message = kind()
    numbers = count(2)
    fill(message, numbers, task=task)
    found = Counter(plain(value) for value in leaves(ANSWERS[kind](message)))
    missing = []
    for path, value in values(message):
        if path in USED_UP:
            continue
        found[value] -= 1
        if found[value] < 0:
            missing.append((path, value))
    assert missing == []


def fill(message: Message, numbers: Iterator[int], *, task: str) -> None:
    """Give every field within the message a value of its own; of a choice, the task of that kind."""
    for field in message.DESCRIPTOR.fields:
        choice = field.containing_oneof
        if choice is not None and field.message_type and len(choice.fields) > 1:
            if field.name != task:
                continue
        elif choice is not None and field is not choice.fields[-1]:
            continue
        set_field(message, field, numbers, task=task)


def set_field(
    message: Message,
    field: Any,  # noqa: ANN401 - descriptors have two types
    numbers: Iterator[int],
    *,
    task: str,
) -> None:
    """Fill one field, a repeated one with two values."""
    times = 2 if field.is_repeated else 1
    if field.message_type is None:
        new = [scalar(field, next(numbers)) for _ in range(times)]
        if field.is_repeated:
            getattr(message, field.name).extend(new)
        else:
            setattr(message, field.name, new[0])
    elif field.message_type.GetOptions().map_entry:
        kept = field.message_type.fields_by_name["value"]
        getattr(message, field.name)[f"key-{next(numbers)}"] = scalar(kept, next(numbers))
    elif field.message_type.full_name == "google.protobuf.Struct":
        getattr(message, field.name).update({f"key-{next(numbers)}": next(numbers) + 0.5})
    elif field.message_type.full_name == "google.protobuf.Value":
        getattr(message, field.name).number_value = next(numbers) + 0.5
    else:
        for _ in range(times):
            target = getattr(message, field.name)
            fill(target.add() if field.is_repeated else target, numbers, task=task)


def scalar(field: FieldDescriptor, number: int) -> Any:  # noqa: ANN401 (a value of any field)
    """A value that tells the field from others, as far as its type can."""
    if field.enum_type is not None:
        names = field.enum_type.values
        return names[1 + number % (len(names) - 1)].number
    return {
        FieldDescriptor.CPPTYPE_STRING: number.to_bytes(8, "big")
        if field.type == FieldDescriptor.TYPE_BYTES
        else f"{field.name}-{number}",
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_FLOAT: number + 0.5,
        FieldDescriptor.CPPTYPE_DOUBLE: number + 0.5,
    }.get(field.cpp_type, number)


def values(message: Message, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value within the message, as the client says it, by its path."""
    name = message.DESCRIPTOR.full_name
    match name:
        case "google.protobuf.Timestamp":
            yield path, message.ToDatetime().timestamp()  # type: ignore[attr-defined]  # checked by its name above
        case "google.protobuf.Duration":
            yield path, message.seconds + message.nanos / 1e9  # type: ignore[attr-defined]  # checked by its name above
        case "google.protobuf.Value":
            yield path, message.number_value  # type: ignore[attr-defined]  # checked by its name above
        case _:
            for field, value in message.ListFields():
                yield from field_values(field, value, f"{path}.{field.name}")


def field_values(
    field: FieldDescriptor,
    value: Any,  # noqa: ANN401 (a value of any field)
    path: str,
) -> Iterator[tuple[str, object]]:
    """The values of one field."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key, item in value.items():
            yield f"{path}.key", key
            if isinstance(item, Message):
                yield from values(item, f"{path}[{key}]")
            else:
                yield f"{path}[{key}]", item
        return
    for index, item in enumerate(value if field.is_repeated else [value]):
        if isinstance(item, Message):
            yield from values(item, f"{path}[{index}]")
        elif field.enum_type is not None:
            prefix = "".join(f"_{c}" if c.isupper() else c for c in field.enum_type.name).upper()
            text = field.enum_type.values_by_number[item].name
            yield path, text.removeprefix(prefix.lstrip("_") + "_").lower()
        else:
            yield f"{path}[{index}]", plain(item)


def leaves(value: object) -> Iterator[object]:
    """Every value within a result, keys of mappings included."""
    match value:
        case Mapping():
            for key, item in value.items():
                yield key
                yield from leaves(item)
        case tuple() | frozenset() | list():
            for item in value:
                yield from leaves(item)
        case _ if is_dataclass(value):
            for field in fields(value):
                yield from leaves(getattr(value, field.name))
        case _:
            yield value


def plain(value: object) -> object:
    """Comparable: times as seconds, words as texts."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).timestamp()
    return str(value) if isinstance(value, str) else value
