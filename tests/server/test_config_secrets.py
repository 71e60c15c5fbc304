"""No error of a configuration shows what may be a key of a service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.load import load

SECRET = "sk-canary-1234"  # noqa: S105 (of no service)
BFL = f"type: bfl, api_key: {SECRET}"


def refusal(folder: Path, text: str, name: str = "atelier.yaml") -> str:
    """The message about a configuration that is refused, without its path."""
    path = folder / name
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(path)
    return str(refused.value).replace(f"{path}: ", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"a: {SECRET}: x", "mapping values are not allowed here (line 1, column 18)"),
        (f"a:\n  b: 1\n  key:{SECRET}\n", "could not find expected ':'"),
        (f"a: '{SECRET}'x", "but found '<scalar>' (line 1, column 20)"),
        (f'a: "{SECRET}', "while scanning a quoted scalar (line 1, column 4): found unexp"),
        (f"b: 1\n\ta: {SECRET}", "that cannot start any token (line 2, column 1)"),
        (f"a: *{SECRET}", "found undefined alias (line 1, column 4)"),
        (f"a: !{SECRET}", "could not determine a constructor for the tag (line 1"),
        (f"a: !x!{SECRET}", "found undefined tag handle"),
        (
            f"a: [&{SECRET} x, &{SECRET} y]",
            "found duplicate anchor; first occurrence (line 1, column 5)",
        ),
        (f'a: "\\k{SECRET}"', "found unknown escape character 'k'"),
        (f'a: "{SECRET}\x07"', "it has characters that YAML does not allow"),
        (f"a: !!binary {SECRET}é", "failed to convert base64"),
        *((f"a: !!{kind} {SECRET}", "not of its type") for kind in ("int", "bool", "timestamp")),
        ("a: 2024-99-99", "not of its type, such as a date that is none"),
    ],
)
def test_what_is_not_yaml_is_named_without_its_line(tmp_path: Path, text: str, told: str) -> None:
    """By the place and what is wrong there: the line may have a key."""
    message = refusal(tmp_path, text)
    assert message.startswith("is not YAML: ")
    assert told in message
    assert SECRET not in message


@pytest.mark.parametrize("line", ["api_key = {}", 'api_key = "{}', 'a="{}"\na="{}"'])
def test_what_is_not_toml_is_named_without_its_line(tmp_path: Path, line: str) -> None:
    """As YAML."""
    message = refusal(tmp_path, line.replace("{}", SECRET), "atelier.toml")
    assert message.startswith("is not TOML: ")
    assert SECRET not in message


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (f"'type=bfl api_key={SECRET}'", "engines.a: Input should be a valid dictionary"),
        (f"{{type: bfl, api_key:{SECRET}}}", "engines.a.api_key…: unknown key"),
        (f"{{type: bfl, api_key={SECRET}}}", "engines.a.api_key…: unknown key"),
        (f"{{type: {{bfl: {SECRET}}}}}", "engines.a.type: must be text"),
        (f"{{type: bfl, api_key: '${{{SECRET}'}}", "engines.a.api_key: a ${ in it begins no"),
        (f"{{{BFL}, base_url: 'ftp://me:{SECRET}@a'}}", "base_url: must be a URL"),
        (f"{{{BFL}, base_url: 'ftp://a?key={SECRET}'}}", "base_url: must be a URL"),
        (f"{{{BFL}, replicas: ['ftp://me:{SECRET}@a']}}", "replicas: must be a URL"),
        (f"{{type: atelier, address: 'me:{SECRET}@a:1'}}", "address: must be HOST"),
        (
            f"{{type: comfyui, servers: [{{url: 'http://a', headers: {{Cookie: '{SECRET}é'}}}}]}}",
            "engines.a.servers.0.headers.Cookie: must have neither",
        ),
        (
            f"{{type: comfyui, servers: ['http://me:{SECRET}@a']}}",
            "engines.a.servers.0: Input should be a valid dictionary",
        ),
    ],
)
def test_a_secret_is_not_repeated_wherever_it_stands(
    tmp_path: Path, engine: str, told: str
) -> None:
    """In an address, in the place of a section, in one with its key, or beside another error."""
    message = refusal(tmp_path, f"engines: {{a: {engine}}}")
    assert told in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"engines: {{a: {{{BFL}, poll_seconds: '${{KEY}}'}}}}", "poll_seconds: .*, not '.{KEY}'"),
        ("engines: {a: {type: '${KEY}'}}", "engines.a.type: no engine type '.{KEY}'"),
        ("default_engine: 'a${KEY}'", "default_engine: no engine 'a.{KEY}'"),
        ("threads: '${QUOTED}'", "threads: .*, not '.{QUOTED}'"),
    ],
)
def test_values_of_variables_are_shown_by_their_names(tmp_path: Path, text: str, told: str) -> None:
    """A key that stands in the place of something else, from the file beside the configuration."""
    (tmp_path / ".env").write_text(f"KEY={SECRET}\nQUOTED='{SECRET}\t\"'\n")
    message = refusal(tmp_path, text)
    assert re.search(told, message)
    assert SECRET not in message


@pytest.mark.parametrize("line", ["{}", 'KEY="{}', "={}", "KEY {}", "KEY={}\xff"])
def test_a_damaged_line_of_variables_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    """It is not repeated."""
    (tmp_path / ".env").write_bytes(line.format(SECRET).encode("latin-1"))
    message = refusal(tmp_path, "{}")
    assert ".env" in message
    assert SECRET not in message
