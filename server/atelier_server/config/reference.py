"""Writes docs/configuration.md from the models of the configuration."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from atelier_engines import registry
from atelier_server.config.settings import Settings

_INTRODUCTION = """\
# Configuration

One file, YAML or TOML (`.toml`), given to `atelier serve --config FILE`; `atelier init KIND` writes one to begin with.
Every key is optional; without a file all defaults apply.
`${NAME}` and `${NAME:-default}` in any string are replaced by environment variables of the server; `$$` is a `$`.
A file `.env` beside the configuration sets those variables, one `NAME=VALUE` a line, that the environment does not.
`atelier config check FILE` lists every error of a file. `atelier config reference` writes this page.

```yaml
listen: 0.0.0.0:50051
allow_insecure: true            # required without TLS and callers that are known: docs/security.md
data_dir: ${ATELIER_DATA:-/var/lib/atelier}
engines:
  tiny:                         # the name that requests use
    type: diffusion             # keys of the type stand beside `type`
    fallbacks: [sketch]
  sketch:
    type: sketch
```
"""

_NAMES: dict[type, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text, never shown",
}


def write_reference() -> str:
    """Write the page."""
    seen: set[type[BaseModel]] = set()
    parts = [_INTRODUCTION, *_write_sections("Top level", "", Settings, seen)]
    for name in registry.engine_types():
        kind = registry.load(name).config
        parts += _write_sections(f"Engines of type `{name}`", "engines.NAME.", kind, seen)
    return "\n".join(parts)


def _write_sections(
    title: str, path: str, model: type[BaseModel], seen: set[type[BaseModel]]
) -> Iterator[str]:
    """The table of a model, then the tables of its sections that were not written yet."""
    seen.add(model)
    yield from _write_section(title, model)
    for key, field in model.model_fields.items():
        for nested in _find_models(field.annotation):
            if nested not in seen and nested is not BaseModel:
                many = ".NAME" if typing.get_origin(field.annotation) is dict else ""
                inner = f"{path}{key}{many}"
                yield from _write_sections(f"`{inner}`", f"{inner}.", nested, seen)


def _find_models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models in the annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _find_models(argument)


def _write_section(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    if model.__doc__:
        yield f"{model.__doc__.strip().splitlines()[0]}\n"
    yield "| key | type | default | description |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if not field.exclude:
            cells = (
                f"`{name}`",
                _describe_type(field),
                _describe_default(field),
                field.description,
            )
            yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _describe_type(field: FieldInfo) -> str:
    bounds = "".join(_describe_bound(rule) for rule in field.metadata)
    return f"{_describe_annotation(field.annotation)}{bounds}".replace("|", "\\|")


def _describe_annotation(annotation: object) -> str:
    """The type in words, such as `whole number or null`."""
    if isinstance(annotation, type) and annotation in _NAMES:
        return _NAMES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    names = [
        "null" if argument is type(None) else _describe_annotation(argument)
        for argument in arguments
    ]
    templates = {
        typing.Annotated: names[:1],
        tuple: ["list of", *names[:1]],
        dict: ["map of", *names[1:]],
    }
    if origin in templates:
        return " ".join(templates[origin])
    return " or ".join(names) if names else "section"


def _describe_bound(rule: object) -> str:
    match rule:
        case Ge():
            return f", ≥ {rule.ge}"
        case Gt():
            return f", > {rule.gt}"
        case Le():
            return f", ≤ {rule.le}"
        case Lt():
            return f", < {rule.lt}"
        case MultipleOf():
            return f", multiple of {rule.multiple_of}"
        case _:
            return ""


def _describe_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True, validated_data={}):
        case BaseModel():
            return ""
        case Enum() as default:
            return f"`{default.value}`"
        case None | bool() | tuple() as default:
            return f"`{json.dumps(default)}`"
        case default:
            return f"`{default}`"
