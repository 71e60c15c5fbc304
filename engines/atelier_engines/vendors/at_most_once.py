"""At-most-once submission for services without job ids: after a restart nothing can be found or sent again."""

from __future__ import annotations

from atelier_engines.errors import EngineUncertainError
from atelier_engines.event import Dispatched
from atelier_engines.task import Task

SUBMITTING = Dispatched(handle="sent")
"""To be yielded before the first paid request, so that it is stored before anything is sent."""


def require_not_submitted(vendor: str, task: Task) -> None:
    """Return if no earlier attempt has submitted anything.

    Raises:
        EngineUncertainError: an earlier attempt has, and its outcome cannot be known.
    """
    if task.resume:
        raise EngineUncertainError(
            f"the server stopped while {vendor} was working on the task; {vendor} cannot look up the "
            "result, and it may have been billed, so it is not sent again"
        )
