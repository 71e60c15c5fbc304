"""Workflows: shipped ones, those from files, and changed ones."""

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
from atelier_engines.workflows.bindings import Bindings, Chain, NodeName, Stack
from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.graph import Graph, graph_from_json, graph_to_json, merged

_TEMPLATES = files("atelier_engines.workflows") / "templates"


class Mode(Enum):
    """What a picture is made from."""

    TXT2IMG = "txt2img"
    IMG2IMG = "img2img"
    INPAINT = "inpaint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A graph, and where a task's values go. Every place that the bindings name is there."""

    name: str
    """For messages."""
    graph: Graph
    """Not to be changed; `filled` and `customised` work on copies."""
    bindings: Bindings
    """Where a task's values go."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Ids of the nodes whose pictures are the result."""
        return tuple(node.find(self.graph) for node in self.bindings.outputs)


def mode_of(task: ImageTask) -> Mode:
    """The mode of workflow that the task needs."""
    if task.mask is not None:
        return Mode.INPAINT
    return Mode.TXT2IMG if task.init_image is None else Mode.IMG2IMG


@cache
def builtin(name: str) -> Workflow:
    """A workflow that comes with the package: sdxl or flux, an underscore, and a mode's value.

    Raises:
        WorkflowError: there is none of that name; the text lists those that are there.
    """
    if name not in builtin_names():
        raise WorkflowError(f"no workflow {name!r} is built in; there are {builtin_names()}")
    return from_json(
        name,
        _read(_TEMPLATES / f"{name}.json"),
        _shipped_bindings(name),
    )


def builtin_names() -> tuple[str, ...]:
    """Names of all workflows that come with the package, sorted."""
    ending = ".bindings.json"
    names = (entry.name for entry in _TEMPLATES.iterdir())
    return tuple(sorted(name.removesuffix(ending) for name in names if name.endswith(ending)))


def from_files(graph: Path, bindings: Path) -> Workflow:
    """The workflow in a file that ComfyUI exported (API format), and the bindings beside it.

    Raises:
        WorkflowError: a file can't be read, is no JSON, or makes no sense; the text names it.
    """
    return from_json(graph.stem, _read(graph), _read(bindings))


def from_json(name: str, graph: object, bindings: object) -> Workflow:
    """The workflow that both describe, as decoded JSON.

    Raises:
        WorkflowError: one makes no sense, or the bindings name what the graph lacks.
    """
    try:
        workflow = Workflow(
            name=name, graph=graph_from_json(graph), bindings=Bindings.model_validate(bindings)
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise WorkflowError(f"bindings of {name}: {where} {first['msg']}".rstrip()) from error
    except WorkflowError as error:
        raise WorkflowError(f"workflow {name}: {error}") from error
    _check(workflow)
    return workflow


def customised(workflow: Workflow, changes: Mapping[str, JsonValue]) -> Workflow:
    """The same with changes merged into its graph, recursively; null removes what it stands at.

    `changes` has nodes by id or title. What it does not name stays as it is; a new id with a
    class_type is a new node.

    Raises:
        WorkflowError: it changes a node that is not there, or leaves a graph that makes no sense.
    """
    raw = graph_to_json(workflow.graph)
    by_id = {_id_of(workflow, key, change): change for key, change in changes.items()}
    changed = Workflow(
        name=workflow.name,
        graph=graph_from_json(merged(raw, by_id)),
        bindings=workflow.bindings,
    )
    _check(changed)
    return changed


def _id_of(workflow: Workflow, key: str, change: JsonValue) -> str:
    is_new = isinstance(change, Mapping) and "class_type" in change
    titles = {node.meta.title for node in workflow.graph.values()} - {""}
    if key in workflow.graph or (is_new and key not in titles):
        return key
    return (NodeName(title=key) if key in titles else NodeName(id=key)).find(workflow.graph)


def _check(workflow: Workflow) -> None:
    """Every place that the bindings name is there."""
    graph, bindings = workflow.graph, workflow.bindings
    for slot, places in bindings.slots.items():
        for place in places:
            node = graph[_found(workflow, f"slots.{slot.value}", place)]
            if place.input not in node.inputs:
                raise WorkflowError(
                    f"bindings of {workflow.name}: slots.{slot.value} names the input {place.input!r}; "
                    f"{node.class_type} has {', '.join(node.inputs) or 'none'}"
                )
    for output in bindings.outputs:
        _found(workflow, "outputs", output)
    for part, chain in (("loras", bindings.loras), ("controls", bindings.controls)):
        match chain:
            case Stack():
                _found(workflow, part, chain.node)
            case Chain():
                _check_chain(workflow, part, chain)
            case None:
                pass


def _check_chain(workflow: Workflow, part: str, chain: Chain) -> None:
    for port in chain.ports:
        _found(workflow, f"{part}.ports", port.after)
    named = [node for places in chain.slots.values() for node, _ in places]
    named += [node for port in chain.ports for node in (port.enters[0], port.leaves[0])]
    for node in named:
        if node not in chain.nodes:
            raise WorkflowError(
                f"bindings of {workflow.name}: {part} names {node!r}; its nodes are {', '.join(chain.nodes)}"
            )


def _found(workflow: Workflow, part: str, node: NodeName) -> str:
    try:
        return node.find(workflow.graph)
    except WorkflowError as error:
        raise WorkflowError(f"bindings of {workflow.name}: {part}: {error}") from error


def _shipped_bindings(name: str) -> JsonValue:
    """Those of a family stand once, in the file of its txt2img; the others say what differs."""
    own = _read(_TEMPLATES / f"{name}.bindings.json")
    base = f"{name.partition('_')[0]}_{Mode.TXT2IMG.value}"
    return own if name == base else merged(_read(_TEMPLATES / f"{base}.bindings.json"), own)


def _read(file: Traversable) -> JsonValue:
    try:
        decoded: JsonValue = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{file} cannot be read as JSON: {error}") from error
    return decoded
