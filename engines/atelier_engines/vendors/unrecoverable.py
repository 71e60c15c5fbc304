"""For services that give no job to ask for: what was sent before a restart is neither found nor sent again."""

from __future__ import annotations

from atelier_engines.errors import EngineUncertainError
from atelier_engines.event import Dispatched
from atelier_engines.task import Task

SENDING = Dispatched(handle="sent")
"""To be yielded before the first request is sent, so that it is stored by then."""


def require_unsent(vendor: str, task: Task) -> None:
    """Return if no earlier attempt has sent anything.

    Raises:
        EngineUncertainError: one has, and what became of it cannot be known.
    """
    if task.resume:
        raise EngineUncertainError(
            f"the server stopped while {vendor} was at work; the service cannot be asked for what "
            "became of it, and it may have been billed, so it is not sent again"
        )
