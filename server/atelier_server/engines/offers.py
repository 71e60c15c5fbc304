"""What a server tells others about an engine that it runs, as JSON in two parts, and back.

Other servers may be of an older or newer version: keys that are not known are left out, those that are missing have
their defaults, and a feature that is not known is not offered.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from atelier_engines import task as engine_task
from atelier_engines.capabilities import Capabilities
from atelier_engines.task import JSON
from atelier_server.estimates.service_times import Measured

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


class UnreadableOfferError(Exception):
    """The bytes were not written by a version that this one understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an engine can do at one server, and what its configuration there says about it."""

    type: str
    """See EngineStatus."""
    capabilities: Capabilities
    """See EngineStatus."""
    queue_limit: int = 1000
    """See EngineStatus."""
    required: bool = False
    """See EngineStatus."""
    fallbacks: tuple[str, ...] = ()
    """See EngineStatus."""
    daily_budget: float | None = None
    """See DailyBudget."""
    max_loading_seconds: float = 60.0
    """See EngineStatus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What an engine at one server is doing."""

    state: int
    """Number of the EngineState."""
    message: str = ""
    """Why it is not ready."""
    running: int = 0
    """Generations that run on it."""
    retry_seconds: float = 0.0
    """Until it may be ready again."""
    loading_seconds: float = 0.0
    """Until it has been loading for long."""
    spent_today: float = 0.0
    """Cost of the generations that have ended since 00:00 UTC at all servers."""
    times: tuple[Measured, ...] = ()
    """How long its newest tasks took."""


def encode(value: Offer | Load) -> bytes:
    """The record as JSON."""
    return _to_json(_encode(value)).encode()


def decode_offer(data: bytes) -> Offer:
    """The record that `encode` was given.

    Raises:
        UnreadableOfferError: another version wrote it.
    """
    return _decode(Offer, data)


def decode_load(data: bytes) -> Load:
    """The record that `encode` was given.

    Raises:
        UnreadableOfferError: another version wrote it.
    """
    return _decode(Load, data)


_Record = TypeVar("_Record", Offer, Load)


def _decode(class_: type[_Record], data: bytes) -> _Record:
    hint: Any = class_
    try:
        record: _Record = _find_decoder(hint)(json.loads(data))
    except (KeyError, TypeError, ValueError) as error:
        msg = f"not an offer of this version: {error!r}"
        raise UnreadableOfferError(msg) from error
    return record


def _encode(value: Any) -> JSON:  # noqa: ANN401 (a field of a record)
    if is_dataclass(value):
        return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted((_encode(item) for item in value), key=str)
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    return value  # type: ignore[no-any-return] # a number, a text or None


_Decode = Callable[[Any], Any]


@cache
def _find_decoder(hint: Any) -> _Decode:  # noqa: ANN401 (a type annotation)
    """How to decode what is annotated so.

    Raises:
        TypeError: no rule is written for it.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in {str, int, float, bool, object, Any} or origin is Literal or _is_json(hint):
        return lambda value: value
    if origin in {Union, types.UnionType} and types.NoneType in arguments:
        (inner,) = (_find_decoder(part) for part in arguments if part is not types.NoneType)
        return lambda value: None if value is None else inner(value)
    if origin is Mapping:
        item = _find_decoder(arguments[1])
        return lambda value: {key: item(each) for key, each in value.items()}
    if origin is frozenset or (origin is tuple and arguments[1:] == (...,)):
        return _make_list_decoder(origin, arguments[0])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if is_dataclass(hint):
        return _make_record_decoder(hint)
    msg = f"no rule to decode a {hint}"
    raise TypeError(msg)


def _is_json(hint: Any) -> bool:  # noqa: ANN401 (a type annotation)
    return {str, bool} <= {part for part in get_args(hint) if isinstance(part, type)}


def _make_list_decoder(make: Callable[..., Any], hint: Any) -> _Decode:  # noqa: ANN401 (a type annotation)
    """Members of an enumeration that are not known are left out."""
    item = _find_decoder(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        known = {member.value for member in hint}
        return lambda value: make(item(each) for each in value if each in known)
    return lambda value: make(item(each) for each in value)


def _make_record_decoder(class_: Any) -> _Decode:  # noqa: ANN401 (a dataclass)
    hints = get_type_hints(class_, localns=dict(vars(engine_task)))
    decoders = {field.name: _find_decoder(hints[field.name]) for field in fields(class_)}
    return lambda value: class_(
        **{name: decoders[name](item) for name, item in value.items() if name in decoders}
    )
