"""From a task to the bodies of its jobs, one a seed."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.comfy_workflows import PreparedTask, WorkflowSet

_MOST_BYTES = 10 * 10**6
_MARGIN_SECONDS = 60.0
_SHORTEST_RUN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """What is sent for one task."""

    order: PreparedTask
    """The graphs."""
    images: tuple[dict[str, JSON], ...]
    """Pictures that the graphs load."""
    seconds: float
    """After which the service itself gives a job up, waiting included: nobody waits for it any more."""

    def body(self, seed: int) -> dict[str, JSON]:
        """The body of the job for one seed.

        Raises:
            UnsupportedError: the workflow has no place for what the task needs.
            InvalidTaskError: the pictures are too large for one request.
        """
        made: dict[str, JSON] = {
            "input": {"workflow": self.order.build_graph(seed), "images": list(self.images)},
            "policy": {
                "executionTimeout": int(max(self.seconds, _SHORTEST_RUN_SECONDS) * 1000),
                "ttl": int((self.seconds + _MARGIN_SECONDS) * 1000),
            },
        }
        size = len(json.dumps(made))
        if size > _MOST_BYTES:
            raise InvalidTaskError(
                "init_image",
                f"the pictures make a request of {size} bytes, and runpod takes {_MOST_BYTES}; "
                "send smaller ones",
            )
        return made


def bodies_of(task: ImageTask, graphs: WorkflowSet, *, seconds: float) -> Bodies:
    """What to send for the task; blocks while pictures are encoded."""
    order = graphs.prepare(task, prefix=f"atelier_{uuid.uuid4().hex}")
    images: tuple[dict[str, JSON], ...] = tuple(
        {"name": name, "image": base64.b64encode(png).decode("ascii")}
        for name, png in order.images.items()
    )
    return Bodies(order=order, images=images, seconds=seconds)
