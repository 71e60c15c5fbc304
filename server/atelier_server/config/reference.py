"""Writes docs/configuration.md from the models themselves."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atelier_engines import registry
from atelier_server.config.settings import (
    BreakerSettings,
    EngineSettings,
    FilingSettings,
    Settings,
    StyleLoraSettings,
    StyleSettings,
)

_INTRODUCTION = """\
# Configuration

One YAML file, given to `atelier serve --config FILE`; every key may be left out, and without a file all defaults hold.
`${NAME}` and `${NAME:-default}` in any string are replaced from the environment of the server; `$$` is a dollar.
`atelier config check FILE` names everything that is wrong with a file. This page is written by
`atelier config reference`.

```yaml
listen: 0.0.0.0:50051
allow_insecure: true            # until there is TLS, say so aloud
data: ${ATELIER_DATA:-/var/lib/atelier}
engines:
  tiny:                         # the name that requests use
    type: diffusion             # the type's own keys stand beside `type`
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
}


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, *_section("Top level", Settings)]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts += _section(f"`{name}`", field.annotation)
    parts += _section("`filing`", FilingSettings)
    parts += _section("Each style under `styles`", StyleSettings)
    parts += _section("Each LoRA of a style", StyleLoraSettings)
    parts += _section("Every engine", EngineSettings)
    parts += _section("`breaker` of an engine", BreakerSettings)
    for name in registry.engine_types():
        parts += _section(f"Engines of type `{name}`", registry.load(name).config)
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    if model.__doc__:
        yield f"{model.__doc__.strip().splitlines()[0]}\n"
    yield "| key | type | default | what it is |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if not field.exclude:
            yield f"| `{name}` | {_type(field)} | {_default(field)} | {field.description} |"
    yield ""


def _type(field: FieldInfo) -> str:
    return f"{_name(field.annotation)}{''.join(_bound(rule) for rule in field.metadata)}".replace(
        "|", "\\|"
    )


def _name(annotation: object) -> str:
    """The type in words."""
    if isinstance(annotation, type) and annotation in _NAMES:
        return _NAMES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    names = ["null" if argument is type(None) else _name(argument) for argument in arguments]
    templates = {
        typing.Annotated: names[:1],
        tuple: ["list of", *names[:1]],
        dict: ["map of", *names[1:]],
    }
    if origin in templates:
        return " ".join(templates[origin])
    return " or ".join(names) if names else "section"


def _bound(rule: object) -> str:
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


def _default(field: FieldInfo) -> str:
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
