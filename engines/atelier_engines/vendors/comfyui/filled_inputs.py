"""Which inputs of a submitted graph have their values from the task: only what is wrong there is the caller's fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier_engines.task import ImageTask
from atelier_engines.workflows import Workflow
from atelier_engines.workflows.bindings import LoraStackNode, Slot
from atelier_engines.workflows.request_overrides import OPTION, read_changes
from atelier_engines.workflows.workflow import find_node_id

_FIELDS: Mapping[Slot, str] = {
    Slot.SAMPLER: "scheduler",
    Slot.SCHEDULE: "scheduler",
    Slot.PREFIX: "",
}
"""Fields of a task by slot, where they have another name; the prefix is the engine's own."""

_CHAINS: Mapping[str, str] = {"lora": "loras", "control": "controls"}
"""Fields of a task by the kind of chain; see `workflows.chains.insert_chain`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledInputs:
    """The inputs of one workflow that take values of a task."""

    workflow: Workflow
    """The workflow, before it was filled."""
    task: ImageTask
    """What it was filled with."""

    def field_of(self, node_id: str, name: str) -> str:
        """The field of the task that decides an input; empty if the workflow itself decides it."""
        graph, bindings = self.workflow.graph, self.workflow.bindings
        if node_id not in graph:
            kind = node_id.partition("_")[0]  # of the chain that it belongs to
            return _CHAINS.get(kind, "")
        if isinstance(bindings.loras, LoraStackNode) and node_id == bindings.loras.node.find(graph):
            return "loras"
        for slot, places in bindings.slots.items():
            for place in places:
                if (place.find(graph), place.input) == (node_id, name):
                    return _FIELDS.get(slot, slot.value)
        for node, parts in read_changes(self.task).items():
            if find_node_id(self.workflow, node) == node_id and name in parts.get("inputs", {}):
                return f"options.{OPTION}.{node}.inputs.{name}"
        return ""
