"""Decided tasks as bytes for the store, and back. Inputs are left out: the request names them by the same paths."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from atelier_engines import media
from atelier_engines import task as engine_task
from atelier_engines.task import JSON, AudioTask, ImageTask, Task
from atelier_server.artifacts.audio.plan import Finishing

_VERSION = 1
_PLAIN = frozenset({types.NoneType, bool, int, float, str})
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_KINDS: Mapping[str, type[Task]] = {"image": ImageTask, "audio": AudioTask}

Inputs: TypeAlias = "Mapping[str, media.Input]"
"""Decoded images and audio by the path of their field in the task: init_image, mask, controls[0].image, init_audio."""


class UnreadableTaskError(Exception):
    """The bytes were not written by a version that this one understands, or an input of the task is missing."""


def encode_task(task: Task, finishing: Finishing | None = None) -> bytes:
    """The task without its inputs, and what the server does afterwards, as versioned JSON; every field is written."""
    kind = "image" if isinstance(task, ImageTask) else "audio"
    envelope = {"version": _VERSION, "kind": kind, "task": _encode(task, "")}
    if finishing is not None:
        envelope["finishing"] = _encode(finishing, "")
    return _to_json(envelope).encode()


def decode_task(data: bytes, inputs: Inputs) -> Task:
    """The task that `encode_task` was given, with these inputs; fields that an older version lacked have defaults.

    Raises:
        UnreadableTaskError: another version wrote it, or an input is missing.
    """
    try:
        envelope = json.loads(data)
        if envelope["version"] != _VERSION:
            msg = f"version {envelope['version']} of the task's encoding is not known"
            raise UnreadableTaskError(msg)
        task: Task = _DECODERS[envelope["kind"]](envelope["task"], inputs)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"not an encoded task of this version: {error!r}"
        raise UnreadableTaskError(msg) from error
    return task


def decode_finishing(data: bytes) -> Finishing | None:
    """What the server does with the samples of the task; None for images, and for tasks of an older version.

    Raises:
        UnreadableTaskError: another version wrote it.
    """
    found = json.loads(data).get("finishing")
    if found is None:
        return None
    try:
        return Finishing(**found)
    except TypeError as error:
        msg = f"not an encoded finishing of this version: {error!r}"
        raise UnreadableTaskError(msg) from error


def _encode(value: object, path: str) -> JSON:
    if type(value) in _PLAIN:
        return value  # type: ignore[return-value] # a number or a text
    if isinstance(value, media.Pixels | media.Samples):
        return path
    class_: type = type(value)
    if (names := _list_fields(class_)) is not None:
        prefix = f"{path}." if path else ""
        parts = attrgetter(*names)(value)
        return {
            name: part if type(part) in _PLAIN else _encode(part, f"{prefix}{name}")
            for name, part in zip(names, parts, strict=True)
        }
    if isinstance(value, tuple):
        return [_encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Enum):
        return str(value.value)
    return value  # type: ignore[return-value] # the options


@cache
def _list_fields(class_: type) -> tuple[str, ...] | None:
    """The names of the fields of a dataclass, of which it has several; None for any other class."""
    return tuple(field.name for field in fields(class_)) if is_dataclass(class_) else None


_Decode = Callable[[Any, Inputs], Any]


def _build_decoders(class_: Any) -> Mapping[str, _Decode]:  # noqa: ANN401 (a dataclass of the task's)
    """How to decode each field of the dataclass, found from its type.

    Raises:
        TypeError: a field has a type that no rule is written for.
    """
    hints = get_type_hints(
        class_, localns={**vars(engine_task), "Pixels": media.Pixels, "Samples": media.Samples}
    )
    return {field.name: _build_decoder(hints[field.name]) for field in fields(class_)}


def _build_decoder(hint: Any) -> _Decode:  # noqa: ANN401 (a type annotation)
    arguments = get_args(hint)
    if hint in {media.Pixels, media.Samples}:
        return lambda path, inputs: inputs[path]
    if hint in {str, int, float, bool} or get_origin(hint) is Mapping:
        return lambda value, _: value
    if get_origin(hint) in {Union, types.UnionType} and types.NoneType in arguments:
        (inner,) = (part for part in arguments if part is not types.NoneType)
        decode = _build_decoder(inner)
        return lambda value, inputs: None if value is None else decode(value, inputs)
    if get_origin(hint) is tuple and arguments[1:] == (...,):
        decode = _build_decoder(arguments[0])
        return lambda value, inputs: tuple(decode(item, inputs) for item in value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value, _: hint(value)
    if is_dataclass(hint):
        decoders = _build_decoders(hint)
        return lambda value, inputs: hint(  # type: ignore[operator] # a class, not an instance
            **{name: decoders[name](item, inputs) for name, item in value.items()}
        )
    msg = f"no rule to store a {hint} in a task"
    raise TypeError(msg)


_DECODERS = {kind: _build_decoder(class_) for kind, class_ in _KINDS.items()}
