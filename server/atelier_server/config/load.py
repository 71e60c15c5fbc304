"""Reads the configuration file and the environment into Settings. Nothing else reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atelier_engines import registry
from atelier_engines.errors import EngineError
from atelier_server.config.settings import EngineSettings, Settings

DEFAULT_ENGINES: Mapping[str, Mapping[str, str]] = {
    "tiny": {"type": "diffusion"},
    "sketch": {"type": "sketch"},
}
"""Engines of a server whose configuration has no `engines`."""

_VARIABLE = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<wrong>\$\{[^}]*\}?)"
)
_SECRET = re.compile("key|token|secret|password")  # values of such keys are never printed
_COMMON_KEYS = (frozenset(EngineSettings.model_fields) - {"config"}) | frozenset(
    EngineSettings.renamed_keys
)
"""Keys of an engine's section that do not belong to its type."""


class _InvalidConfig(BaseModel):
    """Placeholder for an engine's invalid settings, so that the rest can be validated."""


class _Loader(yaml.SafeLoader):
    """Refuses keys that occur twice, of which YAML keeps the last, and nested aliases, which make a small file huge."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0
        self._nested: set[str] = set()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node of the file."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's
        anchor, before = event.anchor, self._aliases
        if self.check_event(yaml.AliasEvent):
            if anchor in self._nested:
                problem = f"the alias {anchor!r} leads to another alias"
                raise yaml.constructor.ConstructorError(None, None, problem, event.start_mark)
            self._aliases += 1
            return super().compose_node(parent, index)
        self._nested.add(anchor)  # an alias inside its own anchor never ends
        node = super().compose_node(parent, index)
        if self._aliases == before:
            self._nested.discard(anchor)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (the base class's)
        """The mapping, each of whose keys occurs once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused by YAML
            if key.value in seen:
                problem = f"the key {key.value!r} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class ConfigurationError(Exception):
    """The configuration is invalid; the message names each key and what is expected there."""


def load(path: Path | None, **overrides: object) -> Settings:
    """Read the file (None: all defaults), and replace values by those overrides that are not None.

    `${NAME}` and `${NAME:-default}` in any string are replaced from the environment; `$$` is a dollar, and
    any other `${` is an error.

    Raises:
        ConfigurationError: the file is missing or not YAML, a variable is not set, a key is unknown, a value is
            invalid.
    """
    raw = {} if path is None else _read(path)
    problems: list[str] = []
    raw = _substitute_variables(raw, "", problems)
    raw.update({key: value for key, value in overrides.items() if value is not None})
    engines = raw.get("engines", DEFAULT_ENGINES)
    if isinstance(engines, Mapping):
        raw["engines"] = {
            name: _validate_engine(str(name), given, problems) for name, given in engines.items()
        }
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        problems += describe_errors(error)
        settings = None
    if settings is not None:
        problems += _unknown_references(settings)
    if settings is None or problems:
        source = f"{path}: " if path else ""
        raise ConfigurationError(
            "\n".join(f"{source}{problem}" for problem in dict.fromkeys(problems))
        )
    return settings


def describe_errors(error: ValidationError, prefix: str = "") -> list[str]:
    """One line for each error: its key, what is expected, and the value."""
    return [_format_error(prefix, problem) for problem in error.errors(include_url=False)]


def _format_error(prefix: str, problem: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails, a TypedDict of its own)
    path = ".".join(
        [*([prefix] if prefix else []), *(str(part) for part in problem["loc"] if part != "config")]
    )
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key"
    if problem["type"] == "renamed_key":
        return f"{path}: {problem['msg']}"
    if problem["type"] == "missing":
        return f"{path}: is required"
    if _SECRET.search(path):
        return f"{path}: {problem['msg']}"
    return f"{path}: {problem['msg']}, not {problem['input']!r}"


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise ConfigurationError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path}: is not YAML: {error}"
        raise ConfigurationError(msg) from error
    except RecursionError as error:
        msg = f"{path}: is nested too deeply"
        raise ConfigurationError(msg) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        msg = f"{path}: must be a mapping of keys to values, not {type(raw).__name__}"
        raise ConfigurationError(msg)
    return raw


def _substitute_variables(value: Any, path: str, problems: list[str]) -> Any:  # noqa: ANN401 (whatever YAML holds)
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _read_variable(found, path, problems), value)
        case dict():
            return {
                key: _substitute_variables(item, f"{path}.{key}".lstrip("."), problems)
                for key, item in value.items()
            }
        case list():
            return [
                _substitute_variables(item, f"{path}[{index}]", problems)
                for index, item in enumerate(value)
            ]
        case _:
            return value


def _read_variable(found: re.Match[str], path: str, problems: list[str]) -> str:
    if found[0] == "$$":
        return "$"
    if found["wrong"] is not None:
        advice = "write ${NAME} or ${NAME:-default}, or $${ for the text ${"
        problems.append(f"{path}: {found['wrong']!r} is not a variable; {advice}")
        return ""
    value = os.environ.get(found["name"], found["default"])
    if value is None:
        problems.append(f"{path}: the environment variable {found['name']} is not set")
        return ""
    return value


def _validate_engine(name: str, given: object, problems: list[str]) -> object:
    """The engine's section, with the keys of its type validated and put under `config`."""
    if not isinstance(given, Mapping) or "type" not in given:
        return given  # refused by pydantic
    path = f"engines.{name}"
    try:
        kind = registry.load(str(given["type"]))
    except (registry.UnknownEngineTypeError, EngineError, TypeError) as error:
        problems.append(f"{path}.type: {error}")
        return {
            **{key: given[key] for key in _COMMON_KEYS & given.keys()},
            "config": _InvalidConfig(),
        }
    own = {key: value for key, value in given.items() if key not in _COMMON_KEYS}
    try:
        config = kind.config.model_validate(own)
    except ValidationError as error:
        problems += describe_errors(error, path)
        config = _InvalidConfig()
    return {**{key: given[key] for key in _COMMON_KEYS & given.keys()}, "config": config}


def _unknown_references(settings: Settings) -> list[str]:
    known = ", ".join(settings.engines)
    problems = [
        f"engines.{name}.fallbacks: no engine {fallback!r}; there are {known}"
        for name, engine in settings.engines.items()
        for fallback in engine.fallbacks
        if fallback not in settings.engines
    ]
    problems += [
        f"engines.{name}.fallbacks: must name other engines, not {name!r} itself"
        for name, engine in settings.engines.items()
        if name in engine.fallbacks
    ]
    if settings.default_engine is not None and settings.default_engine not in settings.engines:
        problems.append(f"default_engine: no engine {settings.default_engine!r}; there are {known}")
    if not settings.engines:
        problems.append("engines: must name at least one engine")
    return problems
