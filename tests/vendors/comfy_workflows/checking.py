"""What a ComfyUI would say to a graph, and the picture that it would draw by it."""

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


def faults(graph: object, pictures: Mapping[str, bytes]) -> Iterator[str]:
    """Why the graph would be refused: links to nowhere, pictures that were not sent, nothing to save."""
    if not isinstance(graph, dict) or not graph:
        yield "no graph"
        return
    for name, node in graph.items():
        for value in node["inputs"].values():
            if isinstance(value, list) and len(value) == 2 and value[0] not in graph:
                yield f"{name} links to {value[0]}, which is not there"
        if node["class_type"] in _LOADERS and node["inputs"].get("image") not in pictures:
            yield f"{name}: Invalid image file: {node['inputs'].get('image')}"
    if "SaveImage" not in {node["class_type"] for node in graph.values()}:
        yield "Prompt has no outputs"


def drawn(graph: GraphJson, pictures: Mapping[str, bytes]) -> bytes:
    """A PNG file of the size that the graph asks for, in a colour that depends on all of it."""
    for data in pictures.values():
        Image.open(io.BytesIO(data)).load()
    known = {node["class_type"]: node["inputs"] for node in reversed(graph.values())}  # type: ignore[call-overload]
    inputs = next(known[kind] for kind in _SIZED if kind in known)
    text = json.dumps(
        [node["inputs"] for node in graph.values() if node["class_type"] != "SaveImage"]
    )
    colour = zlib.crc32(text.encode()) & 0xFFFFFF
    file = io.BytesIO()
    Image.new("RGB", (inputs["width"], inputs["height"]), f"#{colour:06x}").save(file, "PNG")
    return file.getvalue()


def of_class(graph: GraphJson, kind: str) -> list[Mapping[str, Any]]:
    """The inputs of all nodes of that class."""
    return [node["inputs"] for node in graph.values() if node["class_type"] == kind]
