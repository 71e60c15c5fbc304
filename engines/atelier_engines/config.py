"""The base of every section of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A section that is immutable, refuses unknown keys, and names the new key in place of a renamed one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
