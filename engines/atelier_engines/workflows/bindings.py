"""The file beside a workflow that says where a task's values go."""

from __future__ import annotations

from enum import Enum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.graph import Graph, Node

MOST_LORAS = 10
"""In one stack."""


class Slot(Enum):
    """A value that a workflow may take."""

    PROMPT = "prompt"
    NEGATIVE_PROMPT = "negative_prompt"
    WIDTH = "width"
    HEIGHT = "height"
    SEED = "seed"
    STEPS = "steps"
    GUIDANCE = "guidance"
    SAMPLER = "sampler"
    SCHEDULE = "schedule"
    STRENGTH = "strength"
    MODEL = "model"
    INIT_IMAGE = "init_image"
    MASK = "mask"
    PREFIX = "prefix"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class NodeName(_Strict):
    """One node of a graph: by its id, its title, or its class if there is but one of that class."""

    id: str = ""
    title: str = ""
    class_type: str = ""

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if sum(map(bool, (self.id, self.title, self.class_type))) != 1:
            raise ValueError("name the node by one of id, title and class_type")
        return self

    def find(self, graph: Graph) -> str:
        """The node's id.

        Raises:
            WorkflowError: there is no such node, or more than one.
        """
        found = [node_id for node_id, node in graph.items() if self._names(node_id, node)]
        if len(found) == 1:
            return found[0]
        name = self.id or self.title or self.class_type
        if not found:
            known = ", ".join(f"{key} ({node.class_type})" for key, node in graph.items())
            raise WorkflowError(f"the workflow has no node {name!r}; it has {known}")
        raise WorkflowError(
            f"{name!r} names the nodes {', '.join(found)}; name one of them by its id"
        )

    def _names(self, node_id: str, node: Node) -> bool:
        if self.id:
            return node_id == self.id
        if self.title:
            return node.meta.title == self.title
        return node.class_type == self.class_type


class Place(NodeName):
    """An input of a node."""

    input: str = Field(min_length=1)


class Port(_Strict):
    """Where a chain is put into a graph: what leaves `after` goes through the chain first."""

    after: NodeName
    """The node before the chain."""
    output: int = Field(ge=0)
    """Number of that node's output."""
    enters: tuple[str, str]
    """Node of the chain, and its input."""
    leaves: tuple[str, int]
    """Node of the chain, and the number of its output."""


class Chain(_Strict):
    """Nodes that are put into a graph once for each LoRA, or for each control, one behind the other."""

    nodes: dict[str, Node]
    """They link to each other by their keys here, and to the graph's nodes by id."""
    ports: tuple[Port, ...] = Field(min_length=1)
    """Where they are put."""
    slots: dict[str, tuple[tuple[str, str], ...]]
    """For a LoRA name and weight; for a control image, model, strength, start, end, width and height.

    Each is a list of places: node of the chain, and its input.
    """
    most: int = Field(default=MOST_LORAS, ge=1)
    """So many times at most."""


class Stack(_Strict):
    """One node that takes many LoRAs in numbered inputs, as Easy LoRA Stack does."""

    node: NodeName
    """The node."""
    name: str
    """Input for a LoRA's name; {n} stands for its number, from 1."""
    weights: tuple[str, ...] = Field(min_length=1)
    """Inputs for its weight."""
    count: str = ""
    """Input for the number of LoRAs; empty where there is none."""
    empty: JsonValue = "None"
    """Name that leaves a place empty."""
    most: int = Field(default=MOST_LORAS, ge=1)
    """Places."""


class Bindings(_Strict):
    """Where a task's values go."""

    slots: dict[Slot, tuple[Place, ...]]
    """Inputs that take a value, often but one."""
    loras: Chain | Stack | None = None
    """None where there can be no LoRA."""
    controls: Chain | None = None
    """None where there can be no control."""
    samplers: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """ComfyUI's sampler and schedule by the names that callers know, the default first."""
    outputs: tuple[NodeName, ...] = Field(min_length=1)
    """Nodes whose pictures are the result."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for slot in (Slot.PROMPT, Slot.WIDTH, Slot.HEIGHT):
            if slot not in self.slots:
                raise ValueError(f"slots.{slot.value} is missing: every task has one")
        if Slot.MASK in self.slots and Slot.INIT_IMAGE not in self.slots:
            raise ValueError("slots.mask needs slots.init_image, the picture that it masks")
        if self.samplers and not {Slot.SAMPLER, Slot.SCHEDULE} <= self.slots.keys():
            raise ValueError("samplers needs slots.sampler and slots.schedule")
        return self
