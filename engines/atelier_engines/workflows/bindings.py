"""Bindings: the file beside a workflow that says which inputs of its nodes take a task's values."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, Self

from pydantic import Field, JsonValue, model_validator

from atelier_engines.config import Section
from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.graph import Graph, Node

MAX_LORAS = 10
"""Maximum of LoRAs in one chain or one LoRA stack node, unless the bindings say otherwise."""


class Slot(Enum):
    """A value of the task that a workflow may take."""

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


class NodeRef(Section):
    """One node of a graph: by its id, its title, or its class if only one node has that class."""

    id: str = ""
    title: str = ""
    class_type: str = ""

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if sum(map(bool, (self.id, self.title, self.class_type))) != 1:
            raise ValueError("name the node by one of id, title and class_type")
        return self

    def find(self, graph: Graph) -> str:
        """Return the node's id in `graph`.

        Raises:
            WorkflowError: there is no such node, or more than one.
        """
        found = [node_id for node_id, node in graph.items() if self._matches(node_id, node)]
        if len(found) == 1:
            return found[0]
        name = self.id or self.title or self.class_type
        if not found:
            known = ", ".join(f"{key} ({node.class_type})" for key, node in graph.items())
            raise WorkflowError(f"the workflow has no node {name!r}; it has {known}")
        raise WorkflowError(
            f"{name!r} names the nodes {', '.join(found)}; name one of them by its id"
        )

    def _matches(self, node_id: str, node: Node) -> bool:
        if self.id:
            return node_id == self.id
        if self.title:
            return node.meta.title == self.title
        return node.class_type == self.class_type


class InputRef(NodeRef):
    """One input of a node."""

    input: str = Field(min_length=1)


class Splice(Section):
    """Where a chain is inserted into a graph: between an output and the inputs that it is linked to."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"enters": "chain_input", "leaves": "chain_output"}

    after: NodeRef
    """Node whose output is led through the chain."""
    output: int = Field(ge=0)
    """Number of the output of `after`."""
    chain_input: tuple[str, str]
    """Node of the chain, and the input that takes the output."""
    chain_output: tuple[str, int]
    """Node of the chain, and the number of the output that replaces it."""


class NodeChain(Section):
    """Nodes that are inserted into a graph once for each LoRA or control, in series."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"ports": "splices", "most": "max_count"}

    nodes: dict[str, Node]
    """Nodes by key; they link to each other by these keys, and to the graph's nodes by id."""
    splices: tuple[Splice, ...] = Field(min_length=1)
    """Where they are inserted."""
    slots: dict[str, tuple[tuple[str, str], ...]]
    """Inputs that take a value: pairs of a node of the chain and its input.

    The slots of a LoRA are name and weight; of a control image, model, strength, start, end, width, height.
    """
    max_count: int = Field(default=MAX_LORAS, ge=1)
    """Maximum number of LoRAs, or of controls."""


class LoraStackNode(Section):
    """One node that takes several LoRAs in numbered inputs, as Easy LoRA Stack does."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"most": "max_count"}

    node: NodeRef
    """Node with the numbered inputs."""
    name: str
    """Input for a LoRA's name; {n} stands for its number, from 1."""
    weights: tuple[str, ...] = Field(min_length=1)
    """Inputs for a LoRA's weight."""
    count: str = ""
    """Input for the number of LoRAs; empty if there is none."""
    empty: JsonValue = "None"
    """Name that means no LoRA."""
    max_count: int = Field(default=MAX_LORAS, ge=1)
    """Maximum number of LoRAs."""


class Bindings(Section):
    """Which inputs of a workflow take a task's values."""

    slots: dict[Slot, tuple[InputRef, ...]]
    """Inputs that take a value, usually one."""
    loras: NodeChain | LoraStackNode | None = None
    """None if the workflow takes no LoRAs."""
    controls: NodeChain | None = None
    """None if the workflow takes no controls."""
    samplers: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """ComfyUI's sampler and schedule by the scheduler names of the API, the default first."""
    outputs: tuple[NodeRef, ...] = Field(min_length=1)
    """Nodes whose images are the result."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        for slot in (Slot.PROMPT, Slot.WIDTH, Slot.HEIGHT):
            if slot not in self.slots:
                raise ValueError(f"slots.{slot.value} is missing: every task has one")
        if Slot.MASK in self.slots and Slot.INIT_IMAGE not in self.slots:
            raise ValueError("slots.mask needs slots.init_image, the image that it masks")
        if self.samplers and not {Slot.SAMPLER, Slot.SCHEDULE} <= self.slots.keys():
            raise ValueError("samplers needs slots.sampler and slots.schedule")
        return self
