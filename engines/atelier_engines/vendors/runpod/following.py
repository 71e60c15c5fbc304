"""Follows a job at RunPod to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import suppress

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.runpod.wire import ENDED, WAITING, Accepted, Health, State, Workers

_SLOWER = 1.5
_SLOWEST = 5.0
_STRIKES = 3
_RUNNING = frozenset({"IN_PROGRESS", "RUNNING"})
_log = logging.getLogger(__name__)


async def follow(
    vendor: VendorClient, place: str, job: Accepted, *, poll_seconds: float, deadline: Deadline
) -> AsyncGenerator[State | Workers]:
    """How the job stands, the last time when it has ended; while it waits also how the workers are.

    The job is paid for, so a service that can't be reached for a while is waited for until the
    deadline, and one that does not know the job, or answers nonsense, is asked a few times.

    Args:
        vendor: the connection.
        place: the endpoint's path.
        job: the one to follow.
        poll_seconds: first pause between two polls.
        deadline: of the whole task.

    Raises:
        EngineFailedError: the job is lost.
        EngineTimeoutError: the deadline came first.
    """
    pause, strikes, workers = poll_seconds, 0, Workers()
    waits = False
    while True:
        rest = pause
        trouble: EngineError | None = None
        try:
            async with deadline.timeout(vendor.name):
                state = await vendor.request("GET", f"{place}/status/{job.id}", model=State)
        except EngineUnavailableError as error:
            trouble, rest = error, max(pause, error.retry_after_seconds * vendor.delay_scale)
        except EngineTimeoutError as error:
            trouble = error
        except EngineFailedError as error:
            trouble, strikes = error, strikes + 1
            if strikes == _STRIKES:
                raise
        else:
            strikes, waits = 0, state.status in WAITING
            if not waits and state.status not in ENDED | _RUNNING:
                _log.warning(
                    "runpod says %r, which is taken to mean that the job goes on", state.status
                )
            yield state
            if state.status in ENDED:
                return
        if waits:
            with suppress(EngineError):  # it only explains
                async with deadline.timeout(vendor.name):
                    workers = (await vendor.request("GET", f"{place}/health", model=Health)).workers
                yield workers
            _require_worker(deadline, workers)
        deadline.require(vendor.name, because=trouble)
        await asyncio.sleep(min(rest, deadline.remaining))
        pause = min(pause * _SLOWER, poll_seconds * _SLOWEST)


def _require_worker(deadline: Deadline, workers: Workers) -> None:
    if not deadline.remaining:
        raise EngineTimeoutError(
            f"no worker at runpod took the job within {deadline.seconds:g} s; the endpoint has {workers}"
        )
