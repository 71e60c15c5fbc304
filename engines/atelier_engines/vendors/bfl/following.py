"""Follows a job at Black Forest Labs until its picture is ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
)
from atelier_engines.vendors.bfl.wire import Accepted, Found, Sample
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline

_GRACE_SECONDS = 5.0  # until every region knows a new job
_SLOWER = 1.5
_SLOWEST = 6.0
_LONGEST_REASON = 200


async def follow(
    vendor: VendorClient, job: Accepted, *, poll_seconds: float, deadline: Deadline
) -> AsyncGenerator[float | Sample]:
    """Progress of the job, 0 to 1 and only where the service tells it; at last its picture.

    The job is paid for, so a service that can't be reached for a while is waited for until the
    deadline, and one that does not know the job for a few seconds only.

    Raises:
        ContentFilteredError: the service moderated it.
        EngineFailedError: it failed or is lost.
        EngineTimeoutError: the deadline came first.
    """
    pause = poll_seconds
    unknown_since: float | None = None
    while True:
        rest = pause
        trouble: EngineError | None = None
        try:
            async with deadline.timeout(vendor.name):
                found = await vendor.request("GET", job.place, model=Found)
            _require_known(vendor.name, found)
        except EngineUnavailableError as error:
            trouble, rest = error, max(pause, error.retry_after_seconds * vendor.delay_scale)
        except EngineFailedError as error:
            trouble, unknown_since = error, unknown_since or time.monotonic()
            if time.monotonic() - unknown_since > _GRACE_SECONDS * vendor.delay_scale:
                raise
        else:
            unknown_since = None
            outcome = _outcome(vendor.name, found)
            yield outcome
            if isinstance(outcome, Sample):
                return
        deadline.require(vendor.name, because=trouble)
        await asyncio.sleep(min(rest, deadline.remaining))
        pause = min(pause * _SLOWER, poll_seconds * _SLOWEST)


def _require_known(vendor: str, found: Found) -> None:
    if found.status.lower() == "task not found":
        raise EngineFailedError(f"the job is lost: {vendor} does not know it any more")


def _outcome(vendor: str, found: Found) -> float | Sample:
    """Progress or the picture; an unknown status means that the job goes on."""
    status = found.status.lower()
    because = f" ({found.reasons[:_LONGEST_REASON]})" if found.reasons else ""
    if "moderated" in status:
        what = "the prompt or a picture sent" if "request" in status else "the picture made"
        raise ContentFilteredError(f"{vendor} refused {what}{because}; change the prompt")
    if status == "error":
        raise EngineFailedError(f"{vendor} failed at the job{because}; try again")
    if status != "ready":
        progress = found.progress or 0.0
        return progress if 0.0 <= progress <= 1.0 else 0.0
    if found.result is None:
        raise EngineFailedError(f"{vendor} says that the picture is ready, but not where it is")
    return found.result
