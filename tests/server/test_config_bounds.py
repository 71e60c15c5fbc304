"""Configuration: values that are well formed, and that no server could work with, are refused with their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from annotated_types import Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atelier_engines import registry
from atelier_server.config.settings import Settings
from tests.server.test_config import checked, run


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("drain_seconds: 1e9", ["drain_seconds: ", "less than or equal to 604800"]),
        ("health_interval_seconds: 1e300", ["health_interval_seconds: ", "equal to 3600"]),
        ("store: {retention_seconds: 1e300}", ["store.retention_seconds: ", "less than"]),
        (
            "engines: {a: {type: sketch, breaker: {reset_timeout_seconds: 1e300}}}",
            ["engines.a.breaker.reset_timeout_seconds: ", "less than"],
        ),
        (
            "engines: {a: {type: atelier, address: 'b:1', timeout_seconds: 1e300}}",
            ["engines.a.timeout_seconds: ", "less than"],
        ),
        (
            "engines: {a: {type: bfl, api_key: k, base_url: 'http://b:65536'}}",
            ["engines.a.base_url: ", "0 to 65535"],
        ),
        (
            "engines: {a: {type: comfyui, servers: [{url: 'http://b:99999'}]}}",
            ["engines.a.servers.0.url: ", "0 to 65535"],
        ),
        ("engines: {a: {type: bfl, api_key: k, base_url: 'http://'}}", ["engines.a.base_url: "]),
        (
            'export: {directory: /out, template: "{id}_{index}\\n"}',
            ["export.template: ", "control characters"],
        ),
        (
            "export: {directory: /out, template: '{id.__class__}_{index}'}",
            ["export.template: ", "unknown fields id.__class__"],
        ),
        ("limits: {max_message_bytes: 3000000000}", ["limits.max_message_bytes: ", "2147483647"]),
        ("limits: {max_inline_bytes: 3000000000}", ["limits.max_inline_bytes: ", "2147483647"]),
        (
            'engines: {a: {type: bfl, api_key: "key\\n"}}',
            ["engines.a.api_key: ", "neither spaces, line ends"],
        ),
        (
            "engines: {a: {type: bfl, api_key: kéy}}",
            ["engines.a.api_key: ", "beyond ASCII"],
        ),
        (
            f"export: {{directory: /out, template: '{{id}}_{{index}}{'a' * 2000}'}}",
            ["export.template: ", "1024"],
        ),
    ],
)
def test_what_no_server_could_work_with_is_refused(
    tmp_path: Path, text: str, lines: list[str]
) -> None:
    """By the check and at start, with its path."""
    done = checked(tmp_path, text)
    assert done.returncode == 2
    for line in lines:
        assert line in done.stderr
    started = run("serve", "--config", tmp_path / "atelier.yaml")
    assert (started.returncode, started.stderr) == (2, done.stderr)


def test_every_time_has_an_upper_bound() -> None:
    """Whatever is in seconds, in the server's settings and in those of each engine type."""
    sections: list[type[BaseModel]] = [
        Settings,
        *(registry.load(kind).config for kind in registry.engine_types()),
    ]
    times = {
        f"{section.__name__}.{name}": field
        for section in sections
        for section, name, field in _fields(section)
        if name.endswith("_seconds")
    }
    assert len(times) > 20
    unbounded = [
        name
        for name, field in times.items()
        if not any(isinstance(bound, Le) for bound in field.metadata)
    ]
    assert unbounded == []


def test_every_whole_number_of_the_server_has_an_upper_bound() -> None:
    """Libraries that they are passed to hold 32 or 64 bits."""
    unbounded = [
        f"{section.__name__}.{name}"
        for section, name, field in _fields(Settings)
        if int in _classes(field.annotation)
        and not any(isinstance(bound, Le) for bound in field.metadata)
    ]
    assert unbounded == []


def _fields(section: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """The fields of a section, and those of the sections in it."""
    for name, field in section.model_fields.items():
        yield section, name, field
        for kind in _classes(field.annotation):
            if issubclass(kind, BaseModel):
                yield from _fields(kind)


def _classes(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument)
