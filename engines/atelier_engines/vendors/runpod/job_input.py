"""Builds the request bodies of a task's jobs at RunPod, one a seed."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import JSON, ImageTask
from atelier_engines.vendors.comfy_workflows import PreparedTask, WorkflowSet

_TTL_MARGIN_SECONDS = 60.0
_MIN_EXECUTION_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInput:
    """The requests of one task."""

    prepared: PreparedTask
    """Builds the graph of each job."""
    images: tuple[dict[str, JSON], ...]
    """Images that the graphs load."""
    max_bytes: int
    """Size of the largest request that the service takes."""
    timeout_seconds: float
    """Time after which the service itself drops a job, its wait included."""

    def body(self, seed: int) -> dict[str, JSON]:
        """The body of the job for one seed; blocks while it is measured.

        Raises:
            UnsupportedError: the workflow has no input for what the task needs.
            InvalidTaskError: the images are too large for one request.
        """
        execution = max(self.timeout_seconds, _MIN_EXECUTION_SECONDS)
        body: dict[str, JSON] = {
            "input": {"workflow": self.prepared.build_graph(seed), "images": list(self.images)},
            "policy": {
                "executionTimeout": int(execution * 1000),
                "ttl": int((self.timeout_seconds + _TTL_MARGIN_SECONDS) * 1000),
            },
        }
        size = len(json.dumps(body))
        if size > self.max_bytes:
            raise InvalidTaskError(
                "init_image",
                f"with its images the request has {size} bytes, and runpod takes {self.max_bytes}; "
                "send smaller images",
            )
        return body


def build_job_input(
    task: ImageTask, workflows: WorkflowSet, *, timeout_seconds: float, max_bytes: int
) -> JobInput:
    """Build the requests of the task; blocks while images are encoded."""
    prepared = workflows.prepare(task, prefix=f"atelier_{uuid.uuid4().hex}")
    images: tuple[dict[str, JSON], ...] = tuple(
        {"name": name, "image": base64.b64encode(png).decode("ascii")}
        for name, png in prepared.images.items()
    )
    return JobInput(
        prepared=prepared, images=images, max_bytes=max_bytes, timeout_seconds=timeout_seconds
    )
