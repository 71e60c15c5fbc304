"""What a worker returns: the images in it, whatever the shape that worker gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import JsonValue

_CONTAINERS = ("job_results", "images", "results", "output", "image", "image_url", "url", "data")
"""Keys under which workers put images, or that which has them, in the order in which they are looked at.

`images` is that of worker-comfyui from version 5 on, with base64 or a URL under `data` of each; the others are those of
workers built on other handlers. Workers that yield their results send a list of any of these.
"""
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOutput:
    """What a worker returned."""

    images: tuple[str, ...]
    """Each base64, a data URI or a URL."""
    errors: tuple[str, ...]
    """What it says of errors, also beside images."""

    @classmethod
    def read(cls, output: JsonValue) -> Self:
        """The output of a job that has COMPLETED, in any shape."""
        errors = tuple(_find_errors(output))
        images = tuple(_find_images(output, _MAX_DEPTH))
        return cls(images=images, errors=errors)


def _find_images(value: JsonValue, depth: int) -> Iterator[str]:
    """The images in a value: a text is one, lists and known keys have them."""
    match value:
        case str() if value.strip():
            yield value.strip()
        case list() if depth:
            for item in value:
                yield from _find_images(item, depth - 1)
        case Mapping() if depth:
            found = next((value[key] for key in _CONTAINERS if value.get(key)), None)
            if found is not None:
                yield from _find_images(found, depth - 1)
            elif _has_message(value):
                yield from _find_images(value["message"], depth - 1)
        case _:
            return


def _has_message(value: Mapping[str, JsonValue]) -> bool:
    """Whether `message` is an image: so worker-comfyui returned it before version 5, where it also had errors."""
    return value.get("status") != "error" and isinstance(value.get("message"), str)


def _find_errors(output: JsonValue) -> Iterator[str]:
    """What the top of the output, or that of `job_results` in it, says of errors."""
    if not isinstance(output, Mapping):
        return
    if isinstance(output.get("job_results"), Mapping):
        yield from _find_errors(output["job_results"])
    if output.get("status") == "error":
        yield str(output.get("message") or "")
    for key in ("errors", "error"):
        told = output.get(key)
        yield from map(str, told) if isinstance(told, list) else filter(None, [str(told or "")])
