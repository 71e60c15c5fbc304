"""Parses the options of an engine, and checks them against its JSON Schema."""

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
        Violation(".".join(["options", *map(str, error.absolute_path)]), error.message)
        for error in map(_select_best_match, errors)
    ]


def _select_best_match(error: ValidationError) -> ValidationError:
    """Of alternatives that all failed, the one nearest to the value, instead of one that only says `or null`."""
    return best_match([error]) or error
