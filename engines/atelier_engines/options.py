"""Parses a task's options into the pydantic model that an engine's options schema is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def limit_choices(
    schema: Mapping[str, JSON], option: str, choices: Sequence[str]
) -> dict[str, JSON]:
    """The schema with these as the only values of one of its options, which may be left out."""
    return _replace(schema, option, {"enum": [*choices, None]})


def limit_maximum(schema: Mapping[str, JSON], option: str, maximum: int) -> dict[str, JSON]:
    """The schema with whole numbers of 0 to `maximum` as the values of one of its options, which may be left out."""
    number: JSON = {"type": "integer", "minimum": 0, "maximum": maximum}
    return _replace(schema, option, {"anyOf": [number, {"type": "null"}]})


def _replace(
    schema: Mapping[str, JSON], option: str, values: Mapping[str, JSON]
) -> dict[str, JSON]:
    """The schema with other values of one of its options."""
    properties = schema["properties"]
    described = properties.get(option) if isinstance(properties, Mapping) else None
    if not isinstance(properties, Mapping) or not isinstance(described, Mapping):
        raise TypeError(f"the schema has no option {option}")
    kept = {key: value for key, value in described.items() if key != "anyOf"}
    return {**schema, "properties": {**properties, option: {**kept, **values}}}
