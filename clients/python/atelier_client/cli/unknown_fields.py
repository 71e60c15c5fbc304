"""Finds fields of a task that an older server does not know: protobuf drops them without a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from atelier_client.errors import InvalidRequestError
from atelier_client.results import Parameter
from atelier_client.tasks import AudioTask, ImageTask, RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client

LATER_FIELDS = frozenset(
    {"embeddings", "clip_skip", "fit", "aspect_ratio", "padding_mask_crop", "outpaint"}
)
"""Fields that the contract did not have at first; a server that knows one names it among the parameters."""


def find_unknown_fields(
    task: ImageTask | AudioTask, parameters: Sequence[Parameter]
) -> Iterator[str]:
    """The fields that the task sets and that the server does not know; none where it names no parameters at all."""
    named = {parameter.name for parameter in parameters}
    return (name for name in _list_later(task) if named and name not in named)


def refuse_unknown_fields(
    client: Client, task: ImageTask | AudioTask, keywords: RequestKeywords
) -> None:
    """Ask the server for a plan where `strict` is set and the task has fields that an older server does not know.

    Raises:
        InvalidRequestError: it does not know one, which it would ignore.
        AtelierError: it refuses the task.
    """
    if keywords.get("strict") and any(_list_later(task)):
        unknown = ", ".join(find_unknown_fields(task, client.plan(task, **keywords).parameters))
        if unknown:
            raise InvalidRequestError(
                f"this server does not know {unknown}, and would ignore it: leave out --strict, or update the server"
            )


def _list_later(task: ImageTask | AudioTask) -> Iterator[str]:
    return (
        one.name
        for one in dataclasses.fields(task)
        if one.name in LATER_FIELDS and getattr(task, one.name) != one.default
    )
