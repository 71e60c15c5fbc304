"""The endpoint of a task, where an engine may use several that take the same requests."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.errors import InvalidTaskError


class EndpointOptions(BaseModel):
    """Options of engines that may use several endpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    endpoint: str | None = Field(
        default=None,
        description="Endpoint for this task, one of those that the engine is configured with; the first when unset.",
    )


def select_endpoint(options: EndpointOptions, endpoints: Sequence[str]) -> str:
    """The endpoint of a task, one of `endpoints`; the first where its options name none.

    Raises:
        InvalidTaskError: its options name another.
    """
    name = options.endpoint
    if name is None:
        return endpoints[0]
    if name not in endpoints:
        message = f"options.endpoint must be one of {', '.join(endpoints)}, not {name!r}"
        raise InvalidTaskError("options.endpoint", message)
    return name
