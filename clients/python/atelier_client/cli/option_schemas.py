"""Describes the options of an engine, given their JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_Schema = Mapping[str, object]
_MAX_DEPTH = 5
"""How many references and alternatives are followed, so that a schema that refers to itself ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionDescription:
    """One option."""

    name: str
    type: str
    """The values that it takes, such as `integer 6–256`."""
    default: str
    """Empty where there is none."""
    description: str


def describe_options(schema: _Schema) -> Iterator[OptionDescription]:
    """Every option of an engine's `options_schema`, by name."""
    definitions = _get_mapping(schema, "$defs")
    for name, given in sorted(_get_mapping(schema, "properties").items()):
        if isinstance(given, Mapping):
            default = given.get("default")
            yield OptionDescription(
                name=name,
                type=_describe_type(given, definitions, _MAX_DEPTH),
                default="" if default is None else str(default),
                description=str(given.get("description", "")),
            )


def _describe_type(schema: _Schema, definitions: _Schema, depth: int) -> str:
    if depth == 0:
        return "…"
    if isinstance(reference := schema.get("$ref"), str):
        found = _get_mapping(definitions, reference.rpartition("/")[2])
        return _describe_type(found, definitions, depth - 1)
    for choices in (schema.get(key) for key in ("enum", "anyOf", "oneOf")):
        if isinstance(choices, list):
            return _describe_choices(choices, definitions, depth)
    kind = schema.get("const", schema.get("type", "any"))
    if isinstance(kind, list):
        return _describe_choices(kind, definitions, depth)
    if kind == "array":
        items = _get_mapping(schema, "items")
        return f"list of {_describe_type(items, definitions, depth - 1)}"
    return " ".join(filter(None, [str(kind), _describe_bounds(schema)]))


def _describe_choices(choices: list[object], definitions: _Schema, depth: int) -> str:
    """The alternatives; null, which stands for an option that is not given, is left out."""
    texts = [
        _describe_type(choice, definitions, depth - 1)
        if isinstance(choice, Mapping)
        else str(choice)
        for choice in choices
    ]
    return " or ".join(text for text in texts if text not in {"null", "None"})


def _describe_bounds(schema: _Schema) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if isinstance(low, int | float) and isinstance(high, int | float):
        return f"{low:g}–{high:g}"
    if isinstance(low, int | float):
        return f"from {low:g}"
    return f"to {high:g}" if isinstance(high, int | float) else ""


def _get_mapping(schema: _Schema, key: str) -> _Schema:
    found = schema.get(key)
    return found if isinstance(found, Mapping) else {}
