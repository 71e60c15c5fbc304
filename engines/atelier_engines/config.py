"""The base of every section of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

MAX_PAUSE_SECONDS = 3600
"""Of one pause, between polls, checks or retries, and of one response."""
MAX_WAIT_SECONDS = 7 * 86400
"""Of one task, of an engine's start, and of whatever waits for them."""
MAX_KEEP_SECONDS = 100 * 365 * 86400
"""Of what is kept; later times have no timestamp."""

_KNOWN_ERRORS = frozenset(get_args(ErrorType))


class Section(BaseModel):
    """A section: immutable, refuses unknown keys, names the new key of a renamed one, expands `~` in paths."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that earlier versions had, with their new names; those of base classes hold too."""

    @model_validator(mode="wrap")
    @classmethod
    def _name_renamed_keys(cls, values: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Say of an unknown key that was renamed what its name is now; all other errors stay."""
        try:
            return validate(values)
        except ValidationError as error:
            renamed_keys = {
                old: new
                for base in reversed(cls.__mro__)
                for old, new in vars(base).get("renamed_keys", {}).items()
            }
            errors = [_name_new_key(found, renamed_keys) for found in error.errors()]
            raise ValidationError.from_exception_data(error.title, errors) from None

    @field_validator("*")
    @classmethod
    def _expand_home(cls, value: object) -> object:
        """Paths, also in a mapping; strings that may be a path or a name are expanded where they are used."""
        match value:
            case Path():
                return _expand(value)
            case Mapping():
                return {
                    key: _expand(item) if isinstance(item, Path) else item
                    for key, item in value.items()
                }
            case _:
                return value


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("names the home directory of an unknown user") from error


def _name_new_key(error: ErrorDetails, renamed_keys: Mapping[str, str]) -> InitErrorDetails:
    location = error["loc"]
    new = renamed_keys.get(str(location[0])) if len(location) == 1 else None
    kind: str | PydanticCustomError
    if error["type"] == "extra_forbidden" and new is not None:
        kind = PydanticCustomError("renamed_key", "is now {new}", {"new": new})
    elif error["type"] in _KNOWN_ERRORS:
        kind = error["type"]
    else:  # of a validator's own
        kind = PydanticCustomError(error["type"], error["msg"])
    return InitErrorDetails(type=kind, loc=location, input=error["input"], ctx=error.get("ctx", {}))
