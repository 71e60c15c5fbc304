"""The base of every section of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic_core import PydanticCustomError

MAX_PAUSE_SECONDS = 3600
"""Of one pause, between polls, checks or retries, and of one response."""
MAX_WAIT_SECONDS = 7 * 86400
"""Of one task, of an engine's start, and of whatever waits for them."""
MAX_KEEP_SECONDS = 100 * 365 * 86400
"""Of what is kept; later times have no timestamp."""


class Section(BaseModel):
    """A section: immutable, refuses unknown keys, names the new key of a renamed one, expands `~` in paths."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    renamed_keys: ClassVar[Mapping[str, str]] = {}
    """Keys that earlier versions had, with their new names; those of base classes hold too."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed_keys(cls, values: object) -> object:
        if isinstance(values, Mapping):
            renamed_keys = {
                old: new
                for base in reversed(cls.__mro__)
                for old, new in vars(base).get("renamed_keys", {}).items()
            }
            found = [key for key in renamed_keys if key in values and key not in cls.model_fields]
            if found:
                renamed = "; ".join(f"{key} is now {renamed_keys[key]}" for key in found)
                raise PydanticCustomError("renamed_key", "{renamed}", {"renamed": renamed})
        return values

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
