"""Parses the options of an engine, and checks them against its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from google.protobuf.json_format import MessageToDict
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.task import JSON
from atelier_server.errors import InvalidRequestError, Violation

_BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "over",
    "maximum": "of at most",
    "exclusiveMaximum": "under",
}
"""Keyword of JSON Schema to the words before its number."""


def parse_options(request: GenerateRequest) -> Mapping[str, JSON]:
    """The options as JSON values.

    Raises:
        InvalidRequestError: a number is infinite or NaN.
    """
    try:
        options: Mapping[str, JSON] = MessageToDict(request.options)
    except ValueError as error:
        raise InvalidRequestError([Violation("options", "numbers must be finite")]) from error
    return options


def find_option_violations(
    schema: Mapping[str, JSON], options: Mapping[str, JSON]
) -> list[Violation]:
    """Every violation of the schema; empty if there is none."""
    errors = Draft202012Validator(dict(schema)).iter_errors(dict(options))
    return [
        Violation(".".join(["options", *map(str, error.absolute_path)]), _describe(error, schema))
        for error in map(_select_best_match, errors)
    ]


def _select_best_match(error: ValidationError) -> ValidationError:
    """Of alternatives that all failed, the one nearest to the value, instead of one that only says `or null`."""
    return best_match([error]) or error


def _describe(error: ValidationError, root: Mapping[str, JSON]) -> str:
    """The message of the error, which names what is allowed."""
    allowed: object = error.validator_value
    if error.validator in {"anyOf", "oneOf"} and isinstance(allowed, Sequence):
        alternatives = " or ".join(_describe_schema(schema, root) for schema in allowed)
        return f"must be {alternatives}, not {json.dumps(error.instance, ensure_ascii=False)}"
    schema, instance = error.schema, error.instance
    if (
        error.validator == "additionalProperties"
        and isinstance(schema, Mapping)
        and isinstance(instance, Mapping)
    ):
        known = sorted(schema.get("properties", {}))
        if not allowed and "patternProperties" not in schema:
            unknown = ", ".join(repr(name) for name in instance if name not in known)
            return f"has no {unknown}; it has {', '.join(known) or 'no fields'}"
    return error.message


def _describe_schema(schema: object, root: Mapping[str, JSON]) -> str:
    """The values that a schema allows, in a few words."""
    if not isinstance(schema, Mapping):
        return "any value" if schema else "no value"
    definitions = root.get("$defs")
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if isinstance(definitions, Mapping) and name in definitions:
        schema = {**schema, "$ref": "", **_as_mapping(definitions[name])}
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    kind = schema.get("type", schema.get("title", "another value"))
    kinds = [kind] if isinstance(kind, str) else kind
    bounds = [f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema]
    words = " or ".join("null" if kind == "null" else f"{_article(kind)} {kind}" for kind in kinds)
    return " ".join([words, " and ".join(bounds)]).strip()


def _as_mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _article(word: str) -> str:
    return "an" if word[:1].lower() in set("aeio") else "a"
