"""Parses a task's options into the pydantic model that an engine's options schema is made from."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import JSON, Task

OptionsT = TypeVar("OptionsT", bound=BaseModel)


class NoOptions(BaseModel, frozen=True, extra="forbid"):
    """Options of an engine or model that has none."""


def parse_options(task: Task, model: type[OptionsT]) -> OptionsT:
    """The task's options, validated.

    Raises:
        InvalidTaskError: an option is unknown or has an invalid value.
    """
    try:
        return model.model_validate(task.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(["options", *map(str, first["loc"])])
        raise InvalidTaskError(field, f"{field}: {first['msg']}") from error


def build_options_schema(model: type[BaseModel]) -> dict[str, JSON]:
    """The JSON Schema of the options, for the engine's capabilities."""
    schema: dict[str, JSON] = model.model_json_schema()
    return schema
