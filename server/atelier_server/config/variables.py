"""Replaces `${NAME}` by variables of the environment, and of the file `.env` beside the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from atelier_server.config.configuration_files import ConfigurationError

_VARIABLE = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<wrong>\$\{[^}]*\}?)"
)

_MIN_HIDDEN = 8
"""Letters of a value that may be a key."""


def read_variables(configuration: Path | None) -> Mapping[str, str]:
    """The environment, and what `.env` beside the configuration sets in addition.

    Raises:
        ConfigurationError: the file cannot be read, or has a line that sets no variable.
    """
    if configuration is None:
        return os.environ
    return {**_read_env_file(configuration.with_name(".env")), **os.environ}


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigurationError(f"{path}: line {binding.original.line}: must be NAME=VALUE")
    return {
        binding.key: binding.value
        for binding in bindings
        if binding.key and binding.value is not None
    }


@dataclass(frozen=True, slots=True)
class Substitution:
    """Replaces variables in the values of a configuration; `problems` names those that cannot be replaced."""

    variables: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    _used: dict[str, str] = field(default_factory=dict)
    """Names by the values that were put in."""

    def apply(self, value: Any, path: str = "") -> Any:  # noqa: ANN401 (whatever the file holds)
        """The value with its variables replaced; `path` is its key."""
        match value:
            case str():
                return _VARIABLE.sub(lambda found: self._read(found, path), value)
            case dict():
                return {
                    key: self.apply(item, f"{path}.{key}".lstrip("."))
                    for key, item in value.items()
                }
            case list():
                return [self.apply(item, f"{path}[{index}]") for index, item in enumerate(value)]
            case _:
                return value

    def hide(self, message: str) -> str:
        """The message with `${NAME}` for the values that were put in: a key may stand where a number should.

        Short ones stay, since they are found in the words of the message.
        """
        for value, name in sorted(self._used.items(), key=lambda item: -len(item[0])):
            if len(value) >= _MIN_HIDDEN:
                message = message.replace(repr(value)[1:-1], f"${{{name}}}")
                message = message.replace(value, f"${{{name}}}")
        return message

    def _read(self, found: re.Match[str], path: str) -> str:
        if found[0] == "$$":
            return "$"
        if found["wrong"] is not None:
            advice = "write ${NAME} or ${NAME:-default}, or $${ for the text ${"
            self.problems.append(f"{path}: a ${{ in it begins no variable; {advice}")
            return ""
        value = self.variables.get(found["name"], found["default"])
        if value is None:
            self.problems.append(f"{path}: the environment variable {found['name']} is not set")
            return ""
        if found["name"] in self.variables:
            self._used[value] = found["name"]
        return value
