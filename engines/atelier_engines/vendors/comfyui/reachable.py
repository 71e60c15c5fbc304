"""Which nodes of a graph a server runs: those before its output nodes."""

from __future__ import annotations

from collections.abc import Iterable

from atelier_engines.workflows import WorkflowError
from atelier_engines.workflows.graph import Graph, iter_links


def upstream(graph: Graph, ends: Iterable[str]) -> set[str]:
    """The nodes at the ends of a graph, and all on which these depend."""
    sources = sources_by_node(graph)
    found: set[str] = set()
    waiting = [*ends]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(sources[node])
    return found


def require_no_cycle(graph: Graph) -> None:
    """Return if no node depends on itself.

    Raises:
        WorkflowError: one does; the message names those that depend on each other.
    """
    left = {node: set(sources) for node, sources in sources_by_node(graph).items()}
    while ready := [node for node, sources in left.items() if not sources & left.keys()]:
        for node in ready:
            del left[node]
    if left:
        raise WorkflowError(f"the nodes {', '.join(sorted(left))} depend on each other in a circle")


def sources_by_node(graph: Graph) -> dict[str, list[str]]:
    """The nodes that each node's inputs are linked to."""
    sources: dict[str, list[str]] = {node: [] for node in graph}
    for node, _, (source, _) in iter_links(graph):
        sources[node].append(source)
    return sources
