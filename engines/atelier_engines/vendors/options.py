"""Reads a task's options into the model that an engine's options schema comes from."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import JSON, Task

OptionsT = TypeVar("OptionsT", bound=BaseModel)


class NoOptions(BaseModel, frozen=True, extra="forbid"):
    """For what has no options of its own."""


def options_of(task: Task, model: type[OptionsT]) -> OptionsT:
    """The task's options.

    Raises:
        InvalidTaskError: one is unknown, or has a value that it cannot have.
    """
    try:
        return model.model_validate(task.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(["options", *map(str, first["loc"])])
        raise InvalidTaskError(field, f"{field}: {first['msg']}") from error


def schema_of(model: type[BaseModel]) -> dict[str, JSON]:
    """Its JSON Schema."""
    schema: dict[str, JSON] = model.model_json_schema()
    return schema
