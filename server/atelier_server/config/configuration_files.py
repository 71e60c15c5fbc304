"""Reads a configuration file, YAML or TOML, into plain values."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

_QUOTED = re.compile(r" ['\"](?![<'\"]|.['\"]).*['\"]", re.DOTALL)
"""What PyYAML quotes of the file in its messages: aliases, tags and anchors, but not kinds of tokens or letters."""


class ConfigurationError(Exception):
    """The configuration is invalid; the message names each key and what is expected there."""


class _RefusedError(yaml.MarkedYAMLError):
    """The file is YAML, but not what is meant; the problem quotes keys and names alone."""


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
                raise _RefusedError(None, None, problem, event.start_mark)
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
                raise _RefusedError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _NotYamlError(Exception):
    """The text is not YAML; the message does not quote the file, which may have keys of services."""


def _parse_yaml(text: str) -> Any:  # noqa: ANN401 (whatever the file holds)
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        found = _describe(error)
    except yaml.YAMLError:
        found = "it has characters that YAML does not allow"
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
        # What PyYAML's constructors raise of `2024-99-99`, and of `!!bool`, `!!int` or `!!timestamp` with another text.
        found = "it has a value that is not of its type, such as a date that is none; quote what is text"
    raise _NotYamlError(found)  # not `from`: PyYAML quotes the line


def _describe(error: yaml.MarkedYAMLError) -> str:
    given = ((error.context, error.context_mark), (error.problem, error.problem_mark))
    shown = [(text, mark) for text, mark in given if text is not None]
    if not isinstance(error, _RefusedError):
        shown = [(_QUOTED.sub("", text), mark) for text, mark in shown]
    return ": ".join(
        text if mark is None else f"{text} (line {mark.line + 1}, column {mark.column + 1})"
        for text, mark in shown
    )


def read_file(path: Path) -> dict[str, Any]:
    """The content of a file: TOML if its name ends so, else YAML.

    Raises:
        ConfigurationError: it cannot be read, is neither, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text) if path.suffix.lower() == ".toml" else _parse_yaml(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from error
    except _NotYamlError as error:
        raise ConfigurationError(f"{path}: is not YAML: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: is nested too deeply") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        msg = f"{path}: must be a mapping of keys to values, not {type(raw).__name__}"
        raise ConfigurationError(msg)
    return raw
