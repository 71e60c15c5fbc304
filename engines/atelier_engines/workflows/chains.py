"""Inserts LoRAs and controls into a graph, in series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from atelier_engines.task import Lora
from atelier_engines.workflows.bindings import LoraStackNode, NodeChain
from atelier_engines.workflows.graph import Graph, Link, iter_links

SlotValues = Mapping[str, JsonValue]
"""Values by slot, for one LoRA or control."""


def insert_chain(graph: Graph, chain: NodeChain, kind: str, each: Sequence[SlotValues]) -> None:
    """Insert `chain` into `graph` once for each entry of `each`, in their order.

    Inputs that were linked to a spliced output are then linked to the last copy of the chain. The ids of
    new nodes are `<kind>_<number>_<key>`.
    """
    ends: list[Link] = [(splice.after.find(graph), splice.output) for splice in chain.splices]
    consumers = [
        (node, name, ends.index(source))
        for node, name, source in iter_links(graph)
        if source in ends
    ]
    for number, values in enumerate(each, start=1):
        ids = {key: f"{kind}_{number}_{key}" for key in chain.nodes}
        added = {ids[key]: node.model_copy(deep=True) for key, node in chain.nodes.items()}
        for node, name, (source, output) in iter_links(added):
            added[node].inputs[name] = [ids.get(source, source), output]
        for splice, (source, output) in zip(chain.splices, ends, strict=True):
            added[ids[splice.chain_input[0]]].inputs[splice.chain_input[1]] = [source, output]
        for slot, value in values.items():
            for key, name in chain.slots.get(slot, ()):
                added[ids[key]].inputs[name] = value
        graph.update(added)
        ends = [(ids[splice.chain_output[0]], splice.chain_output[1]) for splice in chain.splices]
    for node, name, index in consumers:
        graph[node].inputs[name] = list(ends[index])


def fill_lora_stack(graph: Graph, stack: LoraStackNode, loras: Sequence[Lora]) -> None:
    """Write the LoRAs into the numbered inputs of one node, and clear the remaining ones."""
    inputs = graph[stack.node.find(graph)].inputs
    if stack.count:
        inputs[stack.count] = max(len(loras), 1)  # Easy LoRA Stack takes no 0; empty names are none
    for number in range(1, stack.max_count + 1):
        lora = loras[number - 1] if number <= len(loras) else None
        inputs[stack.name.format(n=number)] = stack.empty if lora is None else lora.name
        for weight in stack.weights:
            inputs[weight.format(n=number)] = 0.0 if lora is None else lora.weight
