"""Cancels the jobs at remote services that an earlier process was to cancel, and did not before it died."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from atelier_engines import event as engine_event
from atelier_engines.closing import Closing, announce
from atelier_engines.engine import Engine
from atelier_engines.errors import JobStoppedError
from atelier_server.admission.decide import Decider
from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.engines.task_codec import decode_task
from atelier_server.store.protocol import Claim, Store

_log = logging.getLogger(__name__)
_RESUME_SECONDS = 5.0  # for the engine to find the job by its handle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CancelledJobs:
    """The jobs at one remote service that this start is to cancel."""

    engine: Engine
    engine_name: str
    decider: Decider
    store: Store
    storage: StorageMonitor
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def cancel(self) -> None:
        """Cancel each once; returns when that is done, also by another worker. Errors are logged.

        The generations have ended before, and stay as they are: the service may have finished a job meanwhile. One
        that runs again continues with its job, unless that was stopped: nothing is paid for twice.
        """
        async with self._turn:
            for claim in self.store.take_cancelled_jobs(self.engine_name):
                await self._cancel(claim)

    async def _cancel(self, claim: Claim) -> None:
        fields = {"generation": claim.generation.id, "engine": self.engine_name}
        closing = Closing()
        try:
            # In a task of its own, since `announce` holds to the end of the task.
            ended = await asyncio.create_task(self._resume_and_leave(claim, closing))
            left = closing.left
            if left is None:  # the engine cannot tell
                left = claim.remote_handle if ended else ""
            if left != claim.remote_handle:
                handle = left
                await self.storage.retry(lambda: self.store.record_job_cancelled(claim, handle))
        except Exception:  # noqa: BLE001 (the worker goes on)
            _log.exception("remote_job_not_cancelled", extra=fields)
        else:
            stop = "" if closing.stop is None else closing.stop.value
            _log.info("remote_job_left", extra={**fields, "stop": stop})

    async def _resume_and_leave(self, claim: Claim, closing: Closing) -> bool:
        """Have the engine resume the job, and leave it, which cancels it there; returns whether the run had ended."""
        announce(closing)
        async with self.decider.load_inputs(claim.request, claim.caller) as inputs:
            task = replace(decode_task(claim.task, inputs), resume=claim.remote_handle)
            with suppress(
                TimeoutError, JobStoppedError
            ):  # the job says nothing, or is stopped already
                async with (
                    asyncio.timeout(_RESUME_SECONDS),
                    aclosing(self.engine.run(task)) as events,
                ):
                    for _ in range(2):  # after the first event it may not know of the job
                        event = await anext(events, None)
                        if event is None or isinstance(event, engine_event.Output):
                            return True
        return False
