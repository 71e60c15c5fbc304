"""Writes what the chart says of its values: README.md and values.schema.json, from the comments of values.yaml.

python scripts/write_chart_files.py [--check]

A comment that begins with `# --` describes the key below it; a line `# @schema {…}` in it adds to the schema that the
default implies. The schema of `config` is that of the server's own settings.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atelier_server.config.settings import Settings

CHART = Path(__file__).parent.parent / "helm" / "atelier"
Schema = dict[str, Any]
SET_BY_CHART = frozenset(
    {
        "role",
        "listen",
        "http",
        "scaler_listen",
        "metrics",
        "health_listen",
        "tls",
        "data_dir",
        "drain_seconds",
        "allow_insecure",
    }
)
"""Keys of the configuration that the chart sets from other values."""
DEFINITIONS: Mapping[str, Schema] = {
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "object": {"type": "object"},
    "objects": {"type": "array", "items": {"type": "object"}},
    "references": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": {"type": "string", "minLength": 1}},
        },
    },
    "quantity": {
        "type": "string",
        "pattern": "^[0-9]+(\\.[0-9]+)?([EPTGMk]i?|m)?$",
    },
    "duration": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
    "accessModes": {
        "type": "array",
        "minItems": 1,
        "items": {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"]},
    },
    "amounts": {
        "type": "object",
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/quantity"}, {"type": "number"}]},
    },
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "requests": {"$ref": "#/$defs/amounts"},
            "limits": {"$ref": "#/$defs/amounts"},
        },
    },
    "environment": {
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {
            "oneOf": [
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["value"],
                    "properties": {"value": {"type": "string"}},
                },
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["existingSecret", "key"],
                    "properties": {
                        "existingSecret": {"type": "string", "minLength": 1},
                        "key": {"type": "string", "minLength": 1},
                    },
                },
            ]
        },
    },
    "files": {
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9._-]+$"},
        "additionalProperties": {"type": "string"},
    },
    "issuer": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "kind": {"enum": ["Issuer", "ClusterIssuer"]},
            "group": {"type": "string", "minLength": 1},
        },
    },
}
SECTIONS_OF_POOLS = (
    *("image", "environment", "environmentFromSecrets", "sharedMemory", "scratch", "prepare"),
    *("gpu", "resources", "runtimeClassName", "priorityClassName", "nodeSelector", "tolerations"),
    *("affinity", "topologySpreadConstraints", "podLabels", "podAnnotations", "extraVolumes"),
    *("extraVolumeMounts", "probes", "podDisruptionBudget", "autoscaling", "rollout"),
)
"""Values that a pool may have for itself, as templates/_pools.tpl merges them; of `persistence` two parts."""
TYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One key of values.yaml."""

    path: tuple[str, ...]
    """Keys from the top."""
    default: Any
    """What values.yaml has."""
    text: str
    """What its comment says; empty for a section."""
    schema: Schema
    """What its comment adds to the schema."""
    children: Sequence["Value"]
    """The keys of a section."""


def read_values() -> Sequence[Value]:
    """The keys of values.yaml, in their order.

    Raises:
        SystemExit: a key that is no section has no description.
    """
    source = (CHART / "values.yaml").read_text()
    root = yaml.compose(source, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - a file of ours
    return list(_read_section(root, source.splitlines(), ()))


def _read_section(
    node: yaml.MappingNode, lines: Sequence[str], path: tuple[str, ...]
) -> Iterator[Value]:
    for key, value in node.value:
        here = (*path, str(key.value))
        text, schema = _read_comment(lines, key.start_mark.line)
        is_section = not text and isinstance(value, yaml.MappingNode)
        if not text and not is_section:
            sys.exit(f"values.yaml: {'.'.join(here)} has no description")
        children = list(_read_section(value, lines, here)) if is_section else []
        default = yaml.safe_load(yaml.serialize(value))
        yield Value(path=here, default=default, text=text, schema=schema, children=children)


def _read_comment(lines: Sequence[str], line: int) -> tuple[str, Schema]:
    """Description and schema in the comment above the line."""
    comment: list[str] = []
    while line and lines[line - 1].strip().startswith("#"):
        line -= 1
        comment.insert(0, lines[line].strip().removeprefix("#").strip())
    schemas = [part.removeprefix("@schema ") for part in comment if part.startswith("@schema ")]
    words = " ".join(part for part in comment if not part.startswith("@schema "))
    text = words.removeprefix("-- ") if words.startswith("-- ") else ""
    return text, json.loads(schemas[0]) if schemas else {}


def write_readme(values: Sequence[Value]) -> str:
    """README.md: README.md.in, and a table of all values."""
    rows = "".join(_row(value) for value in _leaves(values))
    table = f"| key | default | description |\n|---|---|---|\n{rows}"
    return (CHART / "README.md.in").read_text() + table


def _leaves(values: Sequence[Value]) -> Iterator[Value]:
    for value in values:
        if value.children:
            yield from _leaves(value.children)
        else:
            yield value


def _row(value: Value) -> str:
    default = json.dumps(value.default).replace("|", "\\|")
    text = value.text.replace("|", "\\|")
    return f"| `{'.'.join(value.path)}` | `{default}` | {text} |\n"


def write_schema(values: Sequence[Value]) -> str:
    """values.schema.json, which rejects unknown keys everywhere."""
    definitions = {**DEFINITIONS, "pools": _pools_schema(), **_settings_definitions()}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart atelier",
        **_section_schema(values),
        "$defs": definitions,
    }
    schema["properties"]["global"] = {
        "description": "Values of a chart that this one is part of; none is read.",
        "type": "object",
    }
    return json.dumps(schema, indent=1) + "\n"


def _pools_schema() -> Schema:
    """What each pool may have: values of its own, and those at the top for itself."""
    kept = {
        name: {"$ref": f"#/properties/persistence/properties/{name}"}
        for name in ("models", "cache")
    }
    pool: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "engines": {"type": "array", "items": {"type": "string", "minLength": 1}},
            "replicas": {"type": "integer", "minimum": 0},
            "persistence": {"type": "object", "additionalProperties": False, "properties": kept},
            **{name: {"$ref": f"#/properties/{name}"} for name in SECTIONS_OF_POOLS},
        },
    }
    names: Schema = {"pattern": "^[a-z]([a-z0-9-]{0,22}[a-z0-9])?$", "not": {"const": "gateway"}}
    return {"type": "object", "propertyNames": names, "additionalProperties": pool}


def _section_schema(values: Sequence[Value]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {value.path[-1]: _value_schema(value) for value in values},
    }


def _value_schema(value: Value) -> Schema:
    if value.children:
        return _section_schema(value.children)
    implied: Schema = {}
    if not value.schema.keys() & {"$ref", "enum", "type"}:
        implied = {"type": TYPES[type(value.default)]}
        if implied["type"] in {"array", "object"} and "items" not in value.schema:
            sys.exit(f"values.yaml: {'.'.join(value.path)} needs @schema: what may be in it?")
    return {"description": value.text, **implied, **value.schema}


def _settings_definitions() -> Mapping[str, Schema]:
    """The server's settings as definitions; a ${NAME} may stand for every value."""
    schema = Settings.model_json_schema()
    found = {name: _open_to_variables(part) for name, part in schema["$defs"].items()}
    engine = found["EngineSettings"]
    engine["additionalProperties"] = True  # keys of its type, which the server checks
    engine["required"] = ["type"]
    del engine["properties"]["config"]
    del found["AuthSettings"]["properties"]["keys"]
    unused = {"TlsSettings", "KeySettings", "BaseModel"}
    settings = _open_to_variables({key: part for key, part in schema.items() if key != "$defs"})
    settings["properties"] = {
        key: part for key, part in settings["properties"].items() if key not in SET_BY_CHART
    }
    del settings["required"]
    return {
        "Configuration": settings,
        **{name: part for name, part in found.items() if name not in unused},
    }


def _open_to_variables(schema: Any) -> Any:  # noqa: ANN401 - a schema is any JSON
    """The schema, without titles and defaults, where a text with ${NAME} may stand for numbers and patterns."""
    if isinstance(schema, list):
        return [_open_to_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _open_to_variables(part) for name, part in item.items()}
        if key == "properties"
        else _open_to_variables(item)
        for key, item in schema.items()
        if not (key in {"title", "default"} and not isinstance(item, dict)) and key != "default"
    }
    is_strict = kept.get("type") in {"integer", "number", "boolean"} or "enum" in kept
    if not is_strict and not (kept.get("type") == "string" and kept.keys() & {"pattern", "const"}):
        return kept
    text = kept.pop("description", None)
    either: Schema = {"anyOf": [kept, {"type": "string", "pattern": "\\$\\{"}]}
    return {"description": text, **either} if text else either


def main() -> None:
    """Write both files, or with --check fail if they are out of date."""
    values = read_values()
    made = {"README.md": write_readme(values), "values.schema.json": write_schema(values)}
    stale = [name for name, text in made.items() if _read(CHART / name) != text]
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(stale)}; run `make chart-files`" if stale else 0)
    for name in stale:
        (CHART / name).write_text(made[name])
        print(f"wrote {(CHART / name).relative_to(CHART.parent.parent)}")


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    main()
