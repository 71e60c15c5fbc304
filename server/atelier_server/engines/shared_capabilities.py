"""What all workers of an engine can do, where they differ: any of them may be given the task.

What an engine offers (features, models, names, ranges) is what they have in common. What describes how it works is
taken from the earliest worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any, TypeVar

from atelier_engines.capabilities import (
    AudioCapabilities,
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    IntegerRange,
    Model,
    NumberRange,
    Reproducibility,
)
from atelier_engines.task import JSON

_SCALARS: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("max_pixels", "max_images", "max_prompt_length", "max_controls"), min),
    **dict.fromkeys(("max_loras", "max_candidates", "max_seed", "resumable", "typed_names"), min),
    **dict.fromkeys(("min_seed", "billed", "upscale_only", "placeholder"), max),
}
"""What is true only where it is for all is the least of both, what is true where it is for one is the greatest."""
_OPTIONAL = frozenset({"image", "audio", "steps", "guidance", "clip_skip"})
"""None where one has none."""
_NEEDED = frozenset({"models", "sample_rates", "channels"})
"""No task can do without one of these."""


class NothingInCommonError(Exception):
    """There is no task that all of the workers can do."""


def find_common(capabilities: Sequence[Capabilities]) -> Capabilities:
    """What they all can do; `concurrency` is that of all together.

    Raises:
        NothingInCommonError: there is no task that all of them can do.
    """
    first, *others = capabilities
    common = first if all(other == first for other in others) else reduce(_join, capabilities)
    if common.image is None and common.audio is None:
        raise NothingInCommonError
    return replace(common, concurrency=sum(each.concurrency for each in capabilities))


def list_differences(capabilities: Sequence[Capabilities]) -> list[str]:
    """The names of the fields in which they differ, the concurrency apart."""
    first, *others = (
        {
            f"{prefix}{field.name}": getattr(part, field.name)
            for prefix, part in (("", each), ("image.", each.image), ("audio.", each.audio))
            if part is not None
            for field in fields(part)
            if field.name not in {"image", "audio", "concurrency"}
        }
        for each in capabilities
    )
    return sorted(
        {
            name
            for other in others
            for name in first.keys() | other.keys()
            if first.get(name) != other.get(name)
        }
    )


def _join(one: Capabilities, other: Capabilities) -> Capabilities:
    joined = _join_fields(one, other)
    schemas = (one.options_schema, other.options_schema)
    return replace(
        joined,
        options_schema=schemas[0] if schemas[0] == schemas[1] else _join_schemas(*schemas),
        cancel=max(one.cancel, other.cancel, key=list(CancelSupport).index),
        reproducibility=_WEAKER
        if one.reproducibility != other.reproducibility
        else one.reproducibility,
    )


_WEAKER = Reproducibility.BEST_EFFORT


def _join_schemas(one: Mapping[str, JSON], other: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """The schema of the options that both take."""
    required = sorted(
        {str(name) for schema in (one, other) for name in _as_list(schema.get("required"))}
    )
    return {"type": "object", "allOf": [one, other], **({"required": required} if required else {})}


def _as_list(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, list | tuple) else ()


_Part = TypeVar("_Part", Capabilities, ImageCapabilities, AudioCapabilities)


def _join_fields(one: _Part, other: _Part) -> _Part:
    changes = {
        field.name: _join_field(field.name, getattr(one, field.name), getattr(other, field.name))
        for field in fields(one)
    }
    return replace(one, **changes)


def _join_field(name: str, one: Any, other: Any) -> Any:  # noqa: ANN401 (a field of the capabilities)
    if one == other:
        return one
    if name in _OPTIONAL:
        return None if one is None or other is None else _join_ranges(one, other)
    if name in _SCALARS:
        return _SCALARS[name](one, other)
    match one:
        case frozenset():
            return one & other
        case tuple():
            return _keep_common(name, one, other)
        case _:
            return _join_ranges(one, other)


def _join_ranges(one: Any, other: Any) -> Any:  # noqa: ANN401 (a field of the capabilities)
    match one:
        case IntegerRange():
            return _join_integers(one, other)
        case NumberRange():
            return _join_numbers(one, other)
        case ImageCapabilities() | AudioCapabilities():
            return _join_fields(one, other)
        case _:
            return one


def _keep_common(name: str, one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """What both have, in the order of the first; models by their names."""
    known = {_name(item) for item in other}
    common = tuple(item for item in one if _name(item) in known)
    if name in _NEEDED and one and other and not common:
        raise NothingInCommonError
    return common


def _name(item: object) -> object:
    return item.name if isinstance(item, Model) else item


def _join_integers(one: IntegerRange, other: IntegerRange) -> IntegerRange:
    multiple = math.lcm(one.multiple_of, other.multiple_of)
    least = -(-max(one.min, other.min) // multiple) * multiple
    most = min(one.max, other.max) // multiple * multiple
    allowed = tuple(
        value
        for value in one.allowed_values or other.allowed_values
        if least <= value <= most and value in (other.allowed_values or (value,))
    )
    has_list = bool(one.allowed_values or other.allowed_values)
    if least > most or (has_list and not allowed):
        raise NothingInCommonError
    if has_list:
        least, most = allowed[0], allowed[-1]
    default = min(max(one.default, least), most) // multiple * multiple
    return IntegerRange(
        min=least,
        max=most,
        default=default if not has_list or default in allowed else least,
        multiple_of=multiple,
        allowed_values=allowed,
    )


def _join_numbers(one: NumberRange, other: NumberRange) -> NumberRange:
    least, most = max(one.min, other.min), min(one.max, other.max)
    if least > most:
        raise NothingInCommonError
    return NumberRange(min=least, max=most, default=min(max(one.default, least), most))
