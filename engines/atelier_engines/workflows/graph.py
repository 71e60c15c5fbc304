"""Graphs in ComfyUI's API format: parse, validate, merge and serialize."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from atelier_engines.workflows.errors import WorkflowError

Link = tuple[str, int]
"""A node's id, and the number of one of its outputs."""


class Meta(BaseModel):
    """The editor's metadata of a node."""

    title: str = ""


class Node(BaseModel):
    """One operation of a graph."""

    model_config = ConfigDict(populate_by_name=True)

    class_type: str = Field(min_length=1)
    """Node class in ComfyUI: KSampler, LoadImage …"""
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """Values, and links as pairs of a node's id and an output's number."""
    meta: Meta = Field(default_factory=Meta, alias="_meta")
    """Metadata with the title that the editor shows."""


Graph = dict[str, Node]
"""Nodes by id."""

_GRAPH = TypeAdapter(Graph)


def graph_from_json(raw: object) -> Graph:
    """Parse `raw`, decoded JSON, as a graph.

    Raises:
        WorkflowError: it is not a graph in API format, or links to a node that does not exist.
    """
    if isinstance(raw, Mapping) and isinstance(raw.get("nodes"), list):
        raise WorkflowError(
            "this workflow is in the editor's format; save it with Export (API) instead"
        )
    try:
        graph = _GRAPH.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the workflow"
        raise WorkflowError(f"{where}: {first['msg']}") from error
    if not graph:
        raise WorkflowError("the workflow has no nodes")
    for node, name, (source, _) in iter_links(graph):
        if source not in graph:
            raise WorkflowError(
                f"{node}.inputs.{name} links to node {source!r}, which does not exist"
            )
    return graph


def graph_to_json(graph: Graph) -> dict[str, JsonValue]:
    """Serialize the graph as JSON that `graph_from_json` parses."""
    written: dict[str, JsonValue] = _GRAPH.dump_python(graph, mode="json", by_alias=True)
    return written


def iter_links(graph: Graph) -> Iterator[tuple[str, str, Link]]:
    """Iterate over all links: target node, its input, and the source (node, output number)."""
    for node_id, node in graph.items():
        for name, value in node.inputs.items():
            if isinstance(value, list) and len(value) == 2:  # noqa: PLR2004 (node, output)
                source, output = value
                if isinstance(source, str) and isinstance(output, int):
                    yield node_id, name, (source, output)


def merge_patch(base: JsonValue, patch: JsonValue) -> JsonValue:
    """Apply a JSON merge patch: objects are merged key by key, null removes a key, all else replaces.

    Source:
        RFC 7396, section 2.
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result
