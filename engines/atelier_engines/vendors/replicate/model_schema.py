"""The inputs and the output of a model, as its OpenAPI schema says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from atelier_engines.errors import ModelMissingError
from atelier_engines.task import JSON

_MAX_REFERENCES = 8
_REFERENCE = "#/components/schemas/"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int, float),
    "number": (int, float),
}


class _Property(BaseModel):
    """A schema of one value, as far as it is used; references are resolved."""

    model_config = ConfigDict(frozen=True)

    type: str = ""
    format: str = ""
    enum: tuple[JsonValue, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: float | None = Field(default=None, alias="multipleOf")
    default: JsonValue = None
    description: str = ""
    write_only: bool = Field(default=False, alias="writeOnly")
    items: dict[str, JsonValue] | None = None
    array_type: str = Field(default="", alias="x-cog-array-type")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One input of a model."""

    name: str
    """Its name."""
    type: str
    """string, boolean, integer, number, array; other types, or none, are not checked."""
    is_secret: bool = False
    """Whether it takes a key or a password."""
    is_file: bool = False
    """Whether it takes the URL of a file, or a list of them if it is an array."""
    choices: tuple[JsonValue, ...] = ()
    """The only values that it takes; empty where there is no such list."""
    minimum: float | None = None
    """Lowest number."""
    maximum: float | None = None
    """Highest number."""
    multiple_of: int = 0
    """Whole number that its value is a multiple of; 0 where the schema does not say."""
    default: JsonValue = None
    """Value that the model uses by default; None where there is none."""
    description: str = ""
    """What the model's author says about it."""

    def find_problem(self, value: object) -> str:
        """What is wrong with the value, as `must be …`; empty if nothing is."""
        allowed = _TYPES.get(self.type)
        if allowed is not None and (
            not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)
        ):
            return f"must be of type {self.type}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(str, self.choices))}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._find_number_problem(value)
        return ""

    def convert(self, value: JSON) -> JSON:
        """The value as the model takes it: a whole number is sent without a point."""
        if self.type == "integer" and isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    def json_schema(self) -> dict[str, JSON]:
        """JSON Schema of its values, for the options of a task."""
        schema: dict[str, JSON] = {"type": self.type} if self.type in _TYPES else {}
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        if self.maximum is not None:
            schema["maximum"] = self.maximum
        if self.default is not None:
            schema["default"] = self.default
        return {**schema, "description": self.description}

    def _find_number_problem(self, value: float) -> str:
        if self.type == "integer" and not float(value).is_integer():
            return "must be a whole number"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum:g}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum:g}"
        return ""


class OutputForm(Enum):
    """What a prediction's output is."""

    ONE = "one"
    """One file, or an object with files."""
    LIST = "list"
    """A list of files, in order."""
    ITERATOR = "iterator"
    """A list of files that grows while the model works; the last one is the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSchema:
    """What one version of a model takes and returns."""

    inputs: Mapping[str, ModelInput]
    """Inputs by name."""
    required: frozenset[str]
    """Names of the inputs that every request must have."""
    output: OutputForm
    """Form of the output."""


def read_schema(model: str, document: Mapping[str, JsonValue]) -> ModelSchema:
    """The inputs and the output of `model`, from the OpenAPI document of its version.

    Raises:
        ModelMissingError: the document describes no inputs, or an output that is text.
    """
    schemas = _as_mapping(_as_mapping(document.get("components")).get("schemas"))
    inputs = _resolve(_as_mapping(schemas.get("Input")), schemas)
    properties = _as_mapping(inputs.get("properties"))
    if not properties:
        raise ModelMissingError(f"replicate's schema of {model} describes no inputs")
    required = inputs.get("required")
    return ModelSchema(
        inputs={name: _read_input(model, name, part, schemas) for name, part in properties.items()},
        required=frozenset(map(str, required)) if isinstance(required, list) else frozenset(),
        output=_read_output(model, schemas),
    )


def _read_input(
    model: str, name: str, schema: JsonValue, schemas: Mapping[str, JsonValue]
) -> ModelInput:
    read = _read_property(model, name, schema, schemas)
    file = read
    if read.type == "array" and read.items is not None:
        file = _read_property(model, name, read.items, schemas)
    step = read.multiple_of or 0
    return ModelInput(
        name=name,
        type=read.type,
        is_secret=read.format == "password" or read.write_only,
        is_file=file.format == "uri",
        choices=tuple(choice for choice in read.enum if choice is not None),
        minimum=read.minimum,
        maximum=read.maximum,
        multiple_of=int(step) if float(step).is_integer() else 0,
        default=read.default,
        description=read.description,
    )


def _read_output(model: str, schemas: Mapping[str, JsonValue]) -> OutputForm:
    output = _read_property(model, "Output", schemas.get("Output"), schemas)
    item = output
    if output.type == "array" and output.items is not None:
        item = _read_property(model, "Output", output.items, schemas)
    if item.type == "string" and item.format != "uri":
        raise ModelMissingError(
            f"replicate's {model} returns text, not images; configure another model"
        )
    if output.type != "array":
        return OutputForm.ONE
    return OutputForm.ITERATOR if output.array_type == "iterator" else OutputForm.LIST


def _read_property(
    model: str, name: str, schema: JsonValue, schemas: Mapping[str, JsonValue]
) -> _Property:
    resolved = _resolve(_as_mapping(schema), schemas)
    given: dict[str, JsonValue] = {
        key: value for key, value in resolved.items() if value is not None
    }
    types = given.get("type")
    if isinstance(types, list):  # one of them may be null
        given["type"] = next((one for one in types if one != "null"), "")
    try:
        return _Property.model_validate(given)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise ModelMissingError(
            f"replicate's schema of {model} is invalid: {name}.{field}"
        ) from error


def _resolve(
    schema: Mapping[str, JsonValue], schemas: Mapping[str, JsonValue], depth: int = 0
) -> Mapping[str, JsonValue]:
    """The schema with what it refers to; its own keys take precedence. An alternative to null is the schema."""
    if depth > _MAX_REFERENCES:
        return schema
    parts = [_as_mapping(part) for part in _as_list(schema.get("allOf"))]
    for key in ("anyOf", "oneOf"):
        alternatives = [_as_mapping(part) for part in _as_list(schema.get(key))]
        others = [part for part in alternatives if part.get("type") != "null"]
        parts += others if len(others) == 1 else []
    reference = schema.get("$ref")
    if isinstance(reference, str):
        parts.append(_as_mapping(schemas.get(reference.removeprefix(_REFERENCE))))
    merged: dict[str, JsonValue] = {}
    for part in parts:
        merged |= _resolve(part, schemas, depth + 1)
    return {**merged, **schema}


def _as_mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _as_list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
