"""Follows a job at fal to its end, and fetches its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.fal.errors import failure_of
from atelier_engines.vendors.fal.wire import Accepted, Result, State

_SLOWER = 1.5
_SLOWEST = 4.0
_STRIKES = 3
_LONGEST_TEXT = 300


async def follow(
    vendor: VendorClient, job: Accepted, *, poll_seconds: float, deadline: Deadline
) -> AsyncGenerator[State]:
    """How the job stands, again and again, the last time when it is completed.

    The job is paid for, so a service that can't be reached for a while is waited for until the
    deadline, and one that does not know the job, or answers nonsense, is asked a few times.

    Raises:
        EngineFailedError: the job is lost.
        EngineTimeoutError: the deadline came first.
    """
    pause, strikes = poll_seconds, 0
    while True:
        rest = pause
        trouble: EngineError | None = None
        try:
            async with deadline.timeout(vendor.name):
                state = await vendor.request("GET", job.status_url, params={"logs": 1}, model=State)
        except EngineUnavailableError as error:
            trouble, rest = error, max(pause, error.retry_after_seconds * vendor.delay_scale)
        except EngineTimeoutError as error:
            trouble = error
        except EngineFailedError as error:
            trouble, strikes = error, strikes + 1
            if strikes == _STRIKES:
                raise
        else:
            strikes = 0
            yield state
            if state.completed:
                return
        deadline.require(vendor.name, because=trouble)
        await asyncio.sleep(min(rest, deadline.remaining))
        pause = min(pause * _SLOWER, poll_seconds * _SLOWEST)


async def result_of(
    vendor: VendorClient, job: Accepted, state: State, *, deadline: Deadline
) -> Result:
    """What the completed job made.

    Raises:
        ContentFilteredError: the model refused the prompt or a picture.
        InvalidTaskError: the model cannot do the task as it stands.
        EngineFailedError: it failed, was cancelled, or its result has expired.
        EngineTimeoutError: the deadline came first.
        EngineError: see `vendors.errors`.
    """
    error, error_type = state.error or "", state.error_type or ""
    failure = failure_of(error, error_type)
    if failure is not None:
        raise failure
    try:
        async with deadline.timeout(vendor.name):
            result = await vendor.request("GET", job.response_url, model=Result)
    except (EngineTimeoutError, EngineUnavailableError) as trouble:
        if not error:
            raise EngineTimeoutError(f"the result can't be fetched: {trouble}") from trouble
        raise EngineFailedError(
            f"fal failed at the job: {error[:_LONGEST_TEXT]}; try again"
        ) from trouble
    if error:
        raise EngineFailedError(f"fal failed at the job: {error[:_LONGEST_TEXT]}; try again")
    return result
