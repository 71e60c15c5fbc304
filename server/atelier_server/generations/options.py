"""Checks an engine's own options against its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping

from jsonschema import Draft202012Validator

from atelier_engines.task import JSON
from atelier_server.errors import Violation


def option_violations(schema: Mapping[str, JSON], options: Mapping[str, JSON]) -> list[Violation]:
    """What is wrong with the options; empty when nothing is."""
    if not options and "required" not in schema:
        return []
    errors = Draft202012Validator(dict(schema)).iter_errors(dict(options))
    return [
        Violation(".".join(["options", *map(str, error.absolute_path)]), error.message)
        for error in errors
    ]
