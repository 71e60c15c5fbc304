"""Cancels the jobs at remote services that an earlier process was to cancel, and did not before it died."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import replace

from atelier_engines.engine import Engine
from atelier_server.admission.decide import Decider
from atelier_server.engines.task_codec import decode_task
from atelier_server.store.protocol import Claim

_log = logging.getLogger(__name__)
_RESUME_SECONDS = 5.0  # for the engine to find the job by its handle


async def cancel_job(engine: Engine, decider: Decider, claim: Claim) -> None:
    """Have the engine resume the job of a void claim, and leave it, which cancels it there; errors are logged.

    The generation has ended before, and stays as it is: the service may have finished the job meanwhile.
    """
    fields = {"generation": claim.generation.id, "engine": claim.generation.engine}
    try:
        async with decider.load_images(claim.request, claim.caller) as images:
            task = replace(decode_task(claim.task, images), resume=claim.remote_handle)
            async with asyncio.timeout(_RESUME_SECONDS), aclosing(engine.run(task)) as events:
                await anext(events)  # before this it may not know of the job
                await anext(events)
    except (TimeoutError, StopAsyncIteration):  # the job says nothing, or has ended
        pass
    except Exception:  # noqa: BLE001 (nothing depends on it)
        _log.exception("remote_job_not_cancelled", extra=fields)
        return
    _log.info("remote_job_cancelled", extra=fields)
