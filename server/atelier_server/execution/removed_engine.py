"""Decides about generations that wait for an engine that is no longer configured."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from atelier.v1.engine_pb2 import EngineState
from atelier.v1.generation_pb2 import AttemptOutcome, CancelOutcome, State
from atelier_server.admission.decide import Decider
from atelier_server.admission.parameters import describe_route
from atelier_server.admission.private_texts import hide_quotations
from atelier_server.admission.route import Route
from atelier_server.engines.task_codec import encode_task
from atelier_server.errors import ServiceError, failure
from atelier_server.estimates.service_times import Work
from atelier_server.execution.attempt import Attempt
from atelier_server.execution.work_summary import describe_claim
from atelier_server.logs import log_fields
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import Claim, ClaimLostError, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0  # between attempts to use a store that raises


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RemovedEngineWorker:
    """Moves what waits for the engine to a fallback of the engine that was tried first, else fails it."""

    engine: str
    """Name of the engine that was removed or renamed."""
    store: Store
    decider: Decider

    async def run(self) -> None:
        """Work until cancelled."""
        _log.warning("engine_removed", extra={"engine": self.engine})
        changed = asyncio.Event()
        self.decider.router.engines.subscribe(lambda _: changed.set())
        while self._is_a_fallback_loading():
            changed.clear()
            with suppress(TimeoutError):  # that it loads for long changes no status
                await asyncio.wait_for(changed.wait(), _RETRY_SECONDS)
        while True:
            try:
                claim = await self.store.claim(self.engine)
                with log_fields(
                    partial(describe_claim, claim), partial(hide_quotations, claim.request)
                ):
                    await self._process(claim)
            except ClaimLostError:
                continue
            except Exception:  # noqa: BLE001 (the disk may be full, and have space again later)
                _log.exception("claim_failed", extra={"engine": self.engine})
                await asyncio.sleep(_RETRY_SECONDS)

    def _is_a_fallback_loading(self) -> bool:
        engines = self.decider.router.engines
        fallbacks = {name for status in engines.values() for name in status.fallbacks}
        return any(
            engines[name].state == EngineState.ENGINE_STATE_LOADING and not engines[name].hands_over
            for name in fallbacks & engines.keys()
        )

    async def _process(self, claim: Claim) -> None:
        try:
            await self._move_or_fail(claim)
        except ClaimLostError:
            raise
        except BaseException:
            outcome = CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
            if claim.remote_handle:
                outcome = CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
            await self.store.release(claim, keep_remote_handle=True, cancel_outcome=outcome)
            raise

    async def _move_or_fail(self, claim: Claim) -> None:
        attempt = Attempt.start(claim)
        generation = attempt.generation
        reason = failure("UNKNOWN_ENGINE", self._explain(claim))
        attempt.record_end(AttemptOutcome.ATTEMPT_OUTCOME_FAILED, reason)
        route = await self._find_fallback(attempt)
        fields = {"reason": reason.reason, "error": reason.message}
        if route is not None:
            _log.warning("generation_requeued", extra={**fields, "fallback": route.engine.name})
            describe_route(route, generation)
            task = encode_task(route.resolved.task, route.resolved.finishing)
            backlog = self.decider.router.engines.backlog
            work = Work.of(route.resolved.task)
            backlog.add(
                generation.id, route.engine.name, work, claim.caller, batch=is_batch(generation)
            )
            await self.store.requeue_on_engine(claim, generation, task)
        else:
            _log.warning("generation_failed", extra=fields)
            generation.state = State.STATE_FAILED
            generation.failure.CopyFrom(reason)
            await self.store.finish(claim, generation, attempt.last_snapshot)

    async def _find_fallback(self, attempt: Attempt) -> Route | None:
        """A route to a fallback; None if there is none, or if a remote job may do the work already."""
        claim = attempt.claim
        if claim.remote_handle:
            return None
        tried = [before.engine for before in attempt.generation.receipt.attempts]
        try:
            return await self.decider.decide_fallback(
                claim.request, claim.caller, attempt.generation.id, tried
            )
        except ServiceError:
            return None  # its input images are gone

    def _explain(self, claim: Claim) -> str:
        bill = "; its remote job may finish and be billed" if claim.remote_handle else ""
        others = ", ".join(self.decider.router.engines)
        return (
            f"engine {self.engine!r}, for which this generation waited, is no longer configured{bill}; "
            f"submit it again, under another request id, with one of the engines {others}"
        )
