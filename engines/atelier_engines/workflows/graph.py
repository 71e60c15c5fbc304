"""Graphs in ComfyUI's API format: read, checked, changed, written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from atelier_engines.workflows.errors import WorkflowError

Link = tuple[str, int]
"""A node's id, and the number of one of its outputs."""


class Meta(BaseModel):
    """What the editor says about a node."""

    title: str = ""


class Node(BaseModel):
    """One operation of a graph."""

    model_config = ConfigDict(populate_by_name=True)

    class_type: str = Field(min_length=1)
    """Its class in ComfyUI: KSampler, LoadImage …"""
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """Values, and links as lists of a node's id and an output's number."""
    meta: Meta = Field(default_factory=Meta, alias="_meta")
    """Its title is what people call it by."""


Graph = dict[str, Node]
"""Nodes by id."""

_GRAPH = TypeAdapter(Graph)


def graph_from_json(raw: object) -> Graph:
    """The graph that `raw`, decoded JSON, describes.

    Raises:
        WorkflowError: it is no graph in API format, or links to a node that is not there.
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
    for node, name, (source, _) in links(graph):
        if source not in graph:
            raise WorkflowError(
                f"{node}.inputs.{name} links to node {source!r}, which is not there"
            )
    return graph


def graph_to_json(graph: Graph) -> dict[str, JsonValue]:
    """What `graph_from_json` reads."""
    written: dict[str, JsonValue] = _GRAPH.dump_python(graph, mode="json", by_alias=True)
    return written


def links(graph: Graph) -> Iterator[tuple[str, str, Link]]:
    """Every link, as the node and the input that it enters and the output that it comes from."""
    for node_id, node in graph.items():
        for name, value in node.inputs.items():
            if isinstance(value, list) and len(value) == 2:  # noqa: PLR2004 (node, output)
                source, output = value
                if isinstance(source, str) and isinstance(output, int):
                    yield node_id, name, (source, output)


def merged(base: JsonValue, patch: JsonValue) -> JsonValue:
    """`base` changed by `patch`: objects are merged key by key, null removes a key, all else replaces.

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
            result[key] = merged(result.get(key), value)
    return result
