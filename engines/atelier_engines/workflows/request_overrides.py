"""Inputs of a workflow that a task may change, as far as the operator allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import (
    JsonValue,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import JSON, ImageTask
from atelier_engines.workflows.bindings import LoraStackNode
from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.workflow import Workflow, apply_overrides, find_node_id

OPTION = "overrides"
"""Name of the option."""

Value = StrictBool | StrictInt | StrictFloat | StrictStr
"""What a task may set an input to: no link to a node, and no list."""
Changes = dict[str, dict[str, dict[str, Value]]]
"""Values by node, `inputs` and input, as in the configuration's overrides."""
Allowed = Mapping[str, Sequence[str]]
"""Names of inputs by id or title of their node."""

_CHANGES = TypeAdapter(Changes)


def build_overrides_schema(workflows: Iterable[Workflow], allowed: Allowed) -> dict[str, JSON]:
    """The JSON Schema of the option, from the values that the workflows have.

    Raises:
        WorkflowError: no workflow has such an input, it is linked to a node, or a task decides it already.
    """
    known = [*workflows]
    nodes: dict[str, JSON] = {
        node: _object({"inputs": _object({name: _describe(known, node, name) for name in inputs})})
        for node, inputs in allowed.items()
    }
    description = "Changes to the workflow: values by node, `inputs` and input."
    return {**_object(nodes), "description": description}


def read_changes(task: ImageTask) -> Changes:
    """The changes that a task asks for.

    Raises:
        InvalidTaskError: they have another form.
    """
    try:
        return _CHANGES.validate_python(task.options.get(OPTION) or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(["options", OPTION, *map(str, first["loc"])])
        raise InvalidTaskError(field, f"{field}: {first['msg']}") from error


def apply_request_overrides(workflow: Workflow, task: ImageTask, allowed: Allowed) -> Workflow:
    """The workflow with the changes of the task, merged recursively; itself where there are none.

    Raises:
        InvalidTaskError: an input may not be changed, is not in this workflow, or has a value of another type.
    """
    changes = read_changes(task)
    merged: dict[str, JsonValue] = {}
    for node, parts in changes.items():
        inputs: dict[str, JsonValue] = {}
        for part, values in parts.items():
            for name, value in values.items():
                path = f"options.{OPTION}.{node}.{part}.{name}"
                if part != "inputs" or name not in allowed.get(node, ()):
                    raise InvalidTaskError(path, f"{path} may not be changed")
                inputs[name] = _convert(workflow, node, name, value, path)
        merged[node] = {"inputs": inputs}
    return apply_overrides(workflow, merged) if merged else workflow


def _convert(workflow: Workflow, node: str, name: str, value: Value, path: str) -> JsonValue:
    """The value in the type that the input has; JSON of the contract knows no whole numbers."""
    try:
        current = _find_value(workflow, node, name)
    except WorkflowError as error:
        message = f"{path}: the workflow {workflow.name}, which this task needs, has no such input"
        raise InvalidTaskError(path, message) from error
    if _name_type(value) != _name_type(current):
        raise InvalidTaskError(path, f"{path} must be a {_name_type(current)}")
    if isinstance(current, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _describe(workflows: Sequence[Workflow], node: str, name: str) -> JSON:
    """The schema of one input, from the first workflow that has it."""
    found: list[JsonValue] = []
    problem: WorkflowError | None = None
    for workflow in workflows:
        try:
            found.append(_find_value(workflow, node, name))
        except WorkflowError as error:
            problem = problem or error
        else:
            _require_free(workflow, node, name)
    if not found:
        raise WorkflowError(f"request_overrides: {problem}")
    if not (kind := _name_type(found[0])):
        raise WorkflowError(f"request_overrides: {node}.inputs.{name} is linked to a node")
    return {"type": kind}


def _find_value(workflow: Workflow, node: str, name: str) -> JsonValue:
    inputs = workflow.graph[find_node_id(workflow, node)].inputs
    if name not in inputs:
        known = ", ".join(inputs) or "none"
        raise WorkflowError(f"{node} of {workflow.name} has no input {name!r}; it has {known}")
    return inputs[name]


def _require_free(workflow: Workflow, node: str, name: str) -> None:
    """Return if no value of the task goes into the input.

    Raises:
        WorkflowError: one does.
    """
    found, bindings = find_node_id(workflow, node), workflow.bindings
    for slot, places in bindings.slots.items():
        if any((place.find(workflow.graph), place.input) == (found, name) for place in places):
            raise WorkflowError(
                f"request_overrides: {node}.inputs.{name} takes the task's {slot.value}"
            )
    loras = bindings.loras
    if isinstance(loras, LoraStackNode) and loras.node.find(workflow.graph) == found:
        raise WorkflowError(f"request_overrides: {node} takes the task's loras")


def _name_type(value: JsonValue) -> str:
    """Its type in JSON Schema; empty for what is no plain value."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case _:
            return ""


def _object(properties: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
