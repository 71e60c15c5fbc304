"""Puts LoRAs and controls into a graph, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from atelier_engines.task import Lora
from atelier_engines.workflows.bindings import Chain, Stack
from atelier_engines.workflows.graph import Graph, Link, links

Values = Mapping[str, JsonValue]
"""What goes into the slots of one link of a chain."""


def put_chain(graph: Graph, chain: Chain, kind: str, each: Sequence[Values]) -> None:
    """Put `chain` into `graph` once for each of the values, in their order.

    Whatever was linked to one of the chain's ports is then linked to the chain's end. New nodes
    are called `<kind>_<number>_<key>`.
    """
    ends: list[Link] = [(port.after.find(graph), port.output) for port in chain.ports]
    consumers = [
        (node, name, ends.index(source)) for node, name, source in links(graph) if source in ends
    ]
    for number, values in enumerate(each, start=1):
        ids = {key: f"{kind}_{number}_{key}" for key in chain.nodes}
        added = {ids[key]: node.model_copy(deep=True) for key, node in chain.nodes.items()}
        for node, name, (source, output) in links(added):
            added[node].inputs[name] = [ids.get(source, source), output]
        for port, (source, output) in zip(chain.ports, ends, strict=True):
            added[ids[port.enters[0]]].inputs[port.enters[1]] = [source, output]
        for slot, value in values.items():
            for key, name in chain.slots.get(slot, ()):
                added[ids[key]].inputs[name] = value
        graph.update(added)
        ends = [(ids[port.leaves[0]], port.leaves[1]) for port in chain.ports]
    for node, name, port_number in consumers:
        graph[node].inputs[name] = list(ends[port_number])


def fill_stack(graph: Graph, stack: Stack, loras: Sequence[Lora]) -> None:
    """Write the LoRAs into the numbered inputs of one node, and empty the others."""
    inputs = graph[stack.node.find(graph)].inputs
    if stack.count:
        inputs[stack.count] = len(loras)
    for number in range(1, stack.most + 1):
        lora = loras[number - 1] if number <= len(loras) else None
        inputs[stack.name.format(n=number)] = stack.empty if lora is None else lora.name
        for weight in stack.weights:
            inputs[weight.format(n=number)] = 0.0 if lora is None else lora.weight
