"""The fake server's validation of graphs.

Source: ComfyUI 0.33.0, execution.py (`validate_prompt`, `validate_inputs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.vendors.comfyui.nodes import OPTIONAL, REQUIRED, SAVERS, Json, output_types


def problem(kind: str, message: str, details: str = "", **extra: object) -> dict[str, Any]:
    """A validation error in the shape of the server."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def find_problems(graph: Json, uploads: set[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Validation errors of a graph, as `error` and `node_errors`; None if it is valid."""
    for node_id, node in graph.items():
        kind = node.get("class_type")
        if kind not in REQUIRED:
            text = f"Node '{kind}' not found. The custom node may not be installed."
            return problem("missing_node_type", text, f"Node ID '#{node_id}'"), {}
    ends = [node_id for node_id, node in graph.items() if node["class_type"] in SAVERS]
    if not ends:
        return problem("prompt_no_outputs", "Prompt has no outputs"), {}
    errors = {}
    for node_id in _upstream(graph, ends):
        found = [*_find_node_problems(graph, graph[node_id], uploads)]
        if found:
            kind = graph[node_id]["class_type"]
            errors[node_id] = {"errors": found, "dependent_outputs": ends, "class_type": kind}
    if errors:
        text = "Prompt outputs failed validation"
        return problem("prompt_outputs_failed_validation", text), errors
    return None


def _upstream(graph: Json, ends: list[str]) -> list[str]:
    found = [*ends]
    for node_id in found:
        values = graph[node_id]["inputs"].values()
        links = [value[0] for value in values if isinstance(value, list)]
        found.extend(dict.fromkeys(link for link in links if link not in found))
    return found


def _find_node_problems(graph: Json, node: Json, uploads: set[str]) -> Iterator[dict[str, Any]]:
    inputs, kind = node["inputs"], node["class_type"]
    allowed = REQUIRED[kind] | OPTIONAL.get(kind, {})
    for name, specification in allowed.items():
        if name not in inputs:
            if name in REQUIRED[kind]:
                text = "Required input is missing"
                yield problem("required_input_missing", text, name, input_name=name)
            continue
        value = inputs[name]
        if isinstance(value, list):
            given = output_types(graph[value[0]]["class_type"])[value[1]]
            if given != specification[0]:
                text = f"{name}, received_type({given}) mismatch input_type({specification[0]})"
                message = "Return type mismatch between linked nodes"
                yield problem("return_type_mismatch", message, text, input_name=name)
        elif kind == "LoadImage":
            if value not in uploads:
                text = f"image - Invalid image file: {value}"
                message = "Custom validation failed for node"
                yield problem("custom_validation_failed", message, text, input_name=name)
        else:
            yield from _find_value_problems(name, value, specification)


def _find_value_problems(
    name: str, value: Json, specification: list[Any]
) -> Iterator[dict[str, Any]]:
    kind = specification[0]
    options = specification[1] if specification[1:] else {}
    choices = kind if isinstance(kind, list) else options.get("options")
    if kind in ("INT", "FLOAT"):
        value = int(value) if kind == "INT" else float(value)
        if value < options.get("min", value):
            text = f"Value {value} smaller than min of {options['min']}"
            yield problem("value_smaller_than_min", text, name, input_name=name)
        if value > options.get("max", value):
            text = f"Value {value} bigger than max of {options['max']}"
            yield problem("value_bigger_than_max", text, name, input_name=name)
    elif choices is not None and value not in choices:
        text = f"{name}: '{value}' not in {choices}"
        yield problem("value_not_in_list", "Value not in list", text, input_name=name)
