"""Finds what a ComfyUI server would reject in a workflow, before the first task: nodes, inputs, lists, ranges, links.

Source: ComfyUI 0.33.0, execution.py (`validate_prompt`, `validate_inputs`), comfy_execution/validation.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.vendors.comfyui.node_classes import (
    ANY_TYPE,
    InputSpec,
    NodeClass,
    ObjectInfo,
)
from atelier_engines.vendors.comfyui.reachable import require_no_cycle, upstream
from atelier_engines.workflows import Workflow, WorkflowError
from atelier_engines.workflows.bindings import LoraStackNode, NodeChain, Slot
from atelier_engines.workflows.chains import insert_chain

_MAX_PROBLEMS = 6
_MAX_LISTED = 12
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft", ".onnx")
_WHOLE, _NUMBER, _TEXT = {"INT", "FLOAT"}, {"FLOAT", "INT"}, {"STRING"}
_SLOT_TYPES: Mapping[Slot, set[str]] = {
    Slot.PROMPT: _TEXT,
    Slot.NEGATIVE_PROMPT: _TEXT,
    Slot.PREFIX: _TEXT,
    Slot.WIDTH: _WHOLE,
    Slot.HEIGHT: _WHOLE,
    Slot.SEED: _WHOLE,
    Slot.STEPS: _WHOLE,
    Slot.GUIDANCE: _NUMBER,
    Slot.STRENGTH: _NUMBER,
}
"""Types of inputs that take a slot's value; those of the other slots are lists of names."""
_VALUE_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowProblem:
    """One thing that the server would reject."""

    where: str
    """Node and class."""
    text: str
    """What is wrong, and what would be right."""
    missing_file: bool = False
    """Whether it is only that the server does not have a file of weights."""


def require_valid(workflow: Workflow, info: ObjectInfo) -> None:
    """Return if a server with these node classes accepts the workflow, whatever a task fills in.

    Raises:
        ModelMissingError: it lacks files of weights that the workflow names.
        EngineUnavailableError: the workflow is faulty; the message says where, and what would be right.
    """
    problems = [*find_problems(workflow, info)]
    if not problems:
        return
    shown = "; ".join(f"node {one.where}: {one.text}" for one in problems[:_MAX_PROBLEMS])
    more = len(problems) - _MAX_PROBLEMS
    message = f"workflow {workflow.name}: {shown}" + (f"; and {more} more" if more > 0 else "")
    if all(one.missing_file for one in problems):
        raise ModelMissingError(f"comfyui: {message}; install it on the server")
    raise EngineUnavailableError(f"comfyui: {message}; correct the workflow or its bindings")


def find_problems(workflow: Workflow, info: ObjectInfo) -> Iterator[WorkflowProblem]:
    """All problems of the nodes that a server would run; their classes must exist."""
    return _Check(workflow=_insert_chains(workflow, info), classes=info.root).find()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """One workflow on a server with these node classes."""

    workflow: Workflow
    classes: Mapping[str, NodeClass]

    def find(self) -> Iterator[WorkflowProblem]:
        graph = self.workflow.graph
        for node_id in self.workflow.outputs:
            if not self._class_of(node_id).output_node:
                text = "it saves nothing, so it cannot be one of the bindings' outputs"
                yield WorkflowProblem(where=self._name(node_id), text=text)
        try:
            require_no_cycle(graph)
        except WorkflowError as error:
            yield WorkflowProblem(where=self.workflow.name, text=str(error))
            return
        ends = [node_id for node_id in graph if self._class_of(node_id).output_node]
        filled = _filled_inputs(self.workflow)
        for node_id in sorted(upstream(graph, ends)):
            yield from self._node_problems(node_id, filled.get(node_id, {}))

    def _class_of(self, node_id: str) -> NodeClass:
        return self.classes[self.workflow.graph[node_id].class_type]

    def _name(self, node_id: str) -> str:
        return f"{node_id} ({self.workflow.graph[node_id].class_type})"

    def _node_problems(
        self, node_id: str, filled: Mapping[str, Slot | None]
    ) -> Iterator[WorkflowProblem]:
        inputs = self.workflow.graph[node_id].inputs
        described, where = self._class_of(node_id), self._name(node_id)
        for name in described.input.required:
            spec = described.spec(name)
            given = name in inputs or name in filled
            if not given and spec is not None and not spec.is_dynamic:
                yield WorkflowProblem(where=where, text=f"its input {name} is missing")
        for name, value in inputs.items():
            spec = described.spec(name)
            if name in filled:
                yield from _slot_problems(where, name, filled[name], spec, described)
            elif spec is None or spec.is_dynamic:
                continue
            elif isinstance(value, list):
                yield from self._link_problems(where, name, value, spec)
            else:
                yield from _value_problems(where, name, value, spec)

    def _link_problems(
        self, where: str, name: str, link: list[JsonValue], spec: InputSpec
    ) -> Iterator[WorkflowProblem]:
        match link:
            case [str(source), int(number)] if source in self.workflow.graph:
                types = self._class_of(source).output_types
            case _:
                text = f"{name} must be a value or a link to another node's output, not {link}"
                yield WorkflowProblem(where=where, text=text)
                return
        origin = self._name(source)
        if not 0 <= number < len(types):
            text = f"{name} is linked to output {number} of node {origin}, which has {len(types)} from 0"
            yield WorkflowProblem(where=where, text=text)
        elif not _fits(types[number], spec.type):
            text = f"{name} takes {spec.type}, not {types[number]}, which node {origin} gives"
            yield WorkflowProblem(where=where, text=text)


def _insert_chains(workflow: Workflow, info: ObjectInfo) -> Workflow:
    """The workflow with one LoRA and one control, so that their nodes and links are checked too."""
    graph = {key: node.model_copy(deep=True) for key, node in workflow.graph.items()}
    for kind, chain in _chains(workflow).items():
        if all(node.class_type in info.root for node in chain.nodes.values()):
            insert_chain(graph, chain, kind, [{}])
    return replace(workflow, graph=graph)


def _chains(workflow: Workflow) -> dict[str, NodeChain]:
    bindings = workflow.bindings
    chains = {"lora": bindings.loras, "control": bindings.controls}
    return {kind: chain for kind, chain in chains.items() if isinstance(chain, NodeChain)}


def _filled_inputs(workflow: Workflow) -> dict[str, dict[str, Slot | None]]:
    """Inputs whose values come from the task, by node; None for those of LoRAs and controls."""
    filled: dict[str, dict[str, Slot | None]] = {}
    for slot, places in workflow.bindings.slots.items():
        for place in places:
            filled.setdefault(place.find(workflow.graph), {})[place.input] = slot
    for kind, chain in _chains(workflow).items():
        for inputs_ in chain.slots.values():
            for key, name in inputs_:
                filled.setdefault(f"{kind}_1_{key}", {})[name] = None
    stack = workflow.bindings.loras
    if isinstance(stack, LoraStackNode):
        inputs = filled.setdefault(stack.node.find(workflow.graph), {})
        numbers = range(1, stack.max_count + 1)
        names = [stack.name, *stack.weights]
        inputs.update({name.format(n=n): None for name in names for n in numbers})
        inputs.update({stack.count: None} if stack.count else {})
    return filled


def _slot_problems(
    where: str, name: str, slot: Slot | None, spec: InputSpec | None, described: NodeClass
) -> Iterator[WorkflowProblem]:
    if slot is None:
        return
    if spec is None:
        if described.is_core:
            known = ", ".join([*described.input.required, *described.input.optional])
            text = f"it has no input {name}, so slots.{slot.value} would have no effect; it has {known}"
            yield WorkflowProblem(where=where, text=text)
        return
    wanted = _SLOT_TYPES.get(slot, set())
    if wanted and spec.type in _VALUE_TYPES - wanted:
        text = f"{name} takes {spec.type}, which slots.{slot.value} is not"
        yield WorkflowProblem(where=where, text=text)


def _fits(given: str, taken: str) -> bool:
    """Whether an output of one type may be linked to an input of another: they have a type in common."""
    if given.startswith("COMFY_"):
        return True
    givens, takens = ({one.strip() for one in types.split(",")} for types in (given, taken))
    return ANY_TYPE in givens | takens or bool(givens & takens)


def _value_problems(
    where: str, name: str, value: JsonValue, spec: InputSpec
) -> Iterator[WorkflowProblem]:
    if isinstance(value, dict):
        return  # a value in a wrapper: the node checks it
    if spec.type in {"INT", "FLOAT"}:
        yield from _number_problems(where, name, value, spec)
    elif spec.choices is not None and not spec.options.get("multiselect"):
        if value not in spec.choices:
            yield _not_listed(where, name, value, spec.choices)
    elif spec.type not in _VALUE_TYPES and ANY_TYPE not in spec.type and spec.choices is None:
        yield from _unlinked_problems(where, name, value, spec)


def _number_problems(
    where: str, name: str, value: JsonValue, spec: InputSpec
) -> Iterator[WorkflowProblem]:
    try:
        number = float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        number = None
    if number is None:
        yield WorkflowProblem(where=where, text=f"{name} must be a number, not {value!r}")
        return
    low, high = spec.options.get("min"), spec.options.get("max")
    if isinstance(low, int | float) and number < low:
        yield WorkflowProblem(where=where, text=f"{name} must be at least {low}, not {value}")
    if isinstance(high, int | float) and number > high:
        yield WorkflowProblem(where=where, text=f"{name} must be at most {high}, not {value}")


def _not_listed(
    where: str, name: str, value: JsonValue, choices: tuple[JsonValue, ...]
) -> WorkflowProblem:
    listed = ", ".join(str(one) for one in choices[:_MAX_LISTED]) or "none, since it has none"
    more = f" and {len(choices) - _MAX_LISTED} more" if len(choices) > _MAX_LISTED else ""
    is_file = isinstance(value, str) and value.lower().endswith(_WEIGHTS)
    text = f"{name} must be one of {listed}{more}, not {value!r}"
    return WorkflowProblem(where=where, text=text, missing_file=is_file)


def _unlinked_problems(
    where: str, name: str, value: JsonValue, spec: InputSpec
) -> Iterator[WorkflowProblem]:
    """A value where a link belongs: the server accepts it, and the node fails on it."""
    known = {"MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "GUIDER", "SIGMAS"}
    if spec.type in known:
        text = f"{name} must be linked to a node that gives {spec.type}, and is {value!r}"
        yield WorkflowProblem(where=where, text=text)
