"""Reads an engine's own options, and checks them against its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.json_format import MessageToDict
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.task import JSON
from atelier_server.errors import InvalidRequestError, Violation


def parse_options(request: GenerateRequest) -> Mapping[str, JSON]:
    """The options as JSON values.

    Raises:
        InvalidRequestError: one of them is not a number that JSON knows.
    """
    try:
        options: Mapping[str, JSON] = MessageToDict(request.options)
    except ValueError as error:
        why = "numbers must be finite"
        raise InvalidRequestError([Violation("options", why)]) from error
    return options


def find_option_violations(
    schema: Mapping[str, JSON], options: Mapping[str, JSON]
) -> list[Violation]:
    """What is wrong with the options; empty when nothing is."""
    if not options and "required" not in schema:
        return []
    errors = Draft202012Validator(dict(schema)).iter_errors(dict(options))
    return [
        Violation(".".join(["options", *map(str, error.absolute_path)]), error.message)
        for error in map(_select_best_match, errors)
    ]


def _select_best_match(error: ValidationError) -> ValidationError:
    """Of the alternatives that all failed, the one the value came closest to: `or null` says nothing."""
    return best_match([error]) or error
