"""Validates graphs as ComfyUI does, and generates an image for one."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

GraphJson = Mapping[str, Mapping[str, Any]]
_LOADERS = {"LoadImage", "LoadImageMask"}
_SIZED = ("EmptyLatentImage", "EmptySD3LatentImage", "ImageScale")


def find_problems(graph: object, images: Mapping[str, bytes]) -> Iterator[str]:
    """Problems of a graph: links to missing nodes, images that were not sent, no output."""
    if not isinstance(graph, dict) or not graph:
        yield "no graph"
        return
    for name, node in graph.items():
        for value in node["inputs"].values():
            if isinstance(value, list) and len(value) == 2 and value[0] not in graph:
                yield f"{name} links to {value[0]}, which does not exist"
        if node["class_type"] in _LOADERS and node["inputs"].get("image") not in images:
            yield f"{name}: Invalid image file: {node['inputs'].get('image')}"
    if "SaveImage" not in {node["class_type"] for node in graph.values()}:
        yield "Prompt has no outputs"


def generate(graph: GraphJson, images: Mapping[str, bytes]) -> bytes:
    """A PNG file in the size of the graph, whose colour depends on the whole graph."""
    for data in images.values():
        Image.open(io.BytesIO(data)).load()
    known = {node["class_type"]: node["inputs"] for node in reversed(graph.values())}  # type: ignore[call-overload]  # JSON of any form
    inputs = next(known[kind] for kind in _SIZED if kind in known)
    text = json.dumps(
        [node["inputs"] for node in graph.values() if node["class_type"] != "SaveImage"]
    )
    colour = zlib.crc32(text.encode()) & 0xFFFFFF
    file = io.BytesIO()
    Image.new("RGB", (inputs["width"], inputs["height"]), f"#{colour:06x}").save(file, "PNG")
    return file.getvalue()


def of_class(graph: GraphJson, kind: str) -> list[Mapping[str, Any]]:
    """The inputs of all nodes of a class."""
    return [node["inputs"] for node in graph.values() if node["class_type"] == kind]
