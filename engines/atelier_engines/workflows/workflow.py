"""Workflows: built-in, loaded from files, and with overrides applied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import JsonValue, ValidationError

from atelier_engines.task import ImageTask
from atelier_engines.workflows.bindings import Bindings, LoraStackNode, NodeChain, NodeRef
from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.graph import Graph, graph_from_json, graph_to_json, merge_patch

_TEMPLATES = files("atelier_engines.workflows") / "templates"


class Mode(Enum):
    """Kind of generation that a workflow is for."""

    TXT2IMG = "txt2img"
    IMG2IMG = "img2img"
    INPAINT = "inpaint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A graph and its bindings; every node and input that the bindings name exists in the graph."""

    name: str
    """Name for error messages."""
    graph: Graph
    """Read-only: `fill` and `apply_overrides` work on copies."""
    bindings: Bindings
    """Which inputs take a task's values."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Ids of the nodes whose images are the result."""
        return tuple(node.find(self.graph) for node in self.bindings.outputs)


def required_mode(task: ImageTask) -> Mode:
    """Return the mode of the workflow that the task needs."""
    if task.mask is not None:
        return Mode.INPAINT
    return Mode.TXT2IMG if task.init_image is None else Mode.IMG2IMG


@cache
def load_builtin(name: str) -> Workflow:
    """Load a workflow of this package; its name is a family or a template, `_` and a mode's value.

    Raises:
        WorkflowError: there is no such workflow; the message lists those that exist.
    """
    if name not in list_builtins():
        raise WorkflowError(f"no built-in workflow {name!r}; choose one of {list_builtins()}")
    return parse_workflow(
        name,
        _read_json(_TEMPLATES / f"{name}.json"),
        _read_builtin_bindings(name),
    )


def list_builtins() -> tuple[str, ...]:
    """List the names of all built-in workflows, sorted."""
    ending = ".bindings.json"
    names = (entry.name for entry in _TEMPLATES.iterdir())
    return tuple(sorted(name.removesuffix(ending) for name in names if name.endswith(ending)))


def load_files(graph: Path, bindings: Path) -> Workflow:
    """Load a workflow from a file that ComfyUI exported (API format) and a bindings file.

    Raises:
        WorkflowError: a file cannot be read, is not JSON, or is not valid; the message names it.
    """
    return parse_workflow(graph.stem, _read_json(graph), _read_json(bindings))


def parse_workflow(name: str, graph: object, bindings: object) -> Workflow:
    """Parse a workflow from decoded JSON.

    Raises:
        WorkflowError: the graph or the bindings are not valid, or the bindings name a node or input that
            the graph lacks.
    """
    try:
        workflow = Workflow(
            name=name, graph=graph_from_json(graph), bindings=Bindings.model_validate(bindings)
        )
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc']))} {found['msg']}".strip()
            for found in error.errors(include_url=False)
        )
        raise WorkflowError(f"bindings of {name}: {problems}") from error
    except WorkflowError as error:
        raise WorkflowError(f"workflow {name}: {error}") from error
    _check_bindings(workflow)
    return workflow


def apply_overrides(workflow: Workflow, overrides: Mapping[str, JsonValue]) -> Workflow:
    """Merge overrides into the workflow's graph, recursively; null removes a key.

    `overrides` has nodes by id or title. A new id with a class_type adds a node.

    Raises:
        WorkflowError: an override names a node that does not exist, or the resulting graph is not valid.
    """
    raw = graph_to_json(workflow.graph)
    by_id = {find_node_id(workflow, key, change): change for key, change in overrides.items()}
    changed = Workflow(
        name=workflow.name,
        graph=graph_from_json(merge_patch(raw, by_id)),
        bindings=workflow.bindings,
    )
    _check_bindings(changed)
    return changed


def find_node_id(workflow: Workflow, key: str, change: JsonValue = None) -> str:
    """The id of the node with that id or title; the key itself where the change adds a node.

    Raises:
        WorkflowError: there is no such node, or more than one.
    """
    is_new = isinstance(change, Mapping) and "class_type" in change
    titles = {node.meta.title for node in workflow.graph.values()} - {""}
    if key in workflow.graph or (is_new and key not in titles):
        return key
    return (NodeRef(title=key) if key in titles else NodeRef(id=key)).find(workflow.graph)


def _check_bindings(workflow: Workflow) -> None:
    """Check that every node and input that the bindings name exists in the graph."""
    graph, bindings = workflow.graph, workflow.bindings
    for slot, places in bindings.slots.items():
        for place in places:
            node = graph[_find_node(workflow, f"slots.{slot.value}", place)]
            if place.input not in node.inputs:
                raise WorkflowError(
                    f"bindings of {workflow.name}: slots.{slot.value} names the input {place.input!r}; "
                    f"{node.class_type} has {', '.join(node.inputs) or 'none'}"
                )
    for output in bindings.outputs:
        _find_node(workflow, "outputs", output)
    for part, chain in (("loras", bindings.loras), ("controls", bindings.controls)):
        match chain:
            case LoraStackNode():
                _find_node(workflow, part, chain.node)
            case NodeChain():
                _check_chain(workflow, part, chain)
            case None:
                pass


def _check_chain(workflow: Workflow, part: str, chain: NodeChain) -> None:
    for splice in chain.splices:
        _find_node(workflow, f"{part}.splices", splice.after)
    named = [node for places in chain.slots.values() for node, _ in places]
    named += [
        node for splice in chain.splices for node in (splice.chain_input[0], splice.chain_output[0])
    ]
    for node in named:
        if node not in chain.nodes:
            raise WorkflowError(
                f"bindings of {workflow.name}: {part} names {node!r}; its nodes are {', '.join(chain.nodes)}"
            )


def _find_node(workflow: Workflow, part: str, node: NodeRef) -> str:
    try:
        return node.find(workflow.graph)
    except WorkflowError as error:
        raise WorkflowError(f"bindings of {workflow.name}: {part}: {error}") from error


def _read_builtin_bindings(name: str) -> JsonValue:
    """Read the bindings: those of txt2img hold for the family; other modes' files are merged into them."""
    own = _read_json(_TEMPLATES / f"{name}.bindings.json")
    base = f"{name.partition('_')[0]}_{Mode.TXT2IMG.value}"
    return (
        own if name == base else merge_patch(_read_json(_TEMPLATES / f"{base}.bindings.json"), own)
    )


def _read_json(file: Traversable) -> JsonValue:
    try:
        decoded: JsonValue = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{file} cannot be read as JSON: {error}") from error
    return decoded
