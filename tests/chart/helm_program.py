"""Renders, lints and validates for the tests of the chart: one JSON command a line, one JSON answer a line.

It runs in an environment of its own, with Helm's library and the schemas of Kubernetes.
"""

import json
import sys
from typing import Any

import helm_python
import kubernetes_validate


def answer(command: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the command has
    """The result of one command."""
    match command["do"]:
        case "render":
            with helm_python.Chart.load(command["chart"]) as chart:
                options = {"name": command["name"], "namespace": command["namespace"]}
                return chart.render(command["values"], **options)
        case "lint":
            return helm_python.lint(command["chart"], command["values"], strict=True)
        case "validate":
            return [_find_error(item, command["version"]) for item in command["objects"]]
        case other:
            return f"no command {other!r}"


def _find_error(item: dict[str, Any], version: str) -> str:
    """What is wrong with the object in that version of Kubernetes; empty if nothing."""
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return "no schema"
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


for line in sys.stdin:
    try:
        reply = {"result": answer(json.loads(line))}
    except (helm_python.HelmError, OSError) as error:
        reply = {"error": str(error)}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
