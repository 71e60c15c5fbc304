"""Records how attempts end: succeeded, failed, cancelled, or requeued on a fallback engine."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.generation_pb2 import AttemptOutcome, CancelOutcome, Failure, Generation, State
from atelier_engines.capabilities import CancelSupport
from atelier_engines.errors import EngineError
from atelier_server.admission.decide import Decider
from atelier_server.admission.router import Route
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.export import OutputExporter
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.engines.task_codec import encode_task
from atelier_server.errors import CODES, DataLossError, ServiceError, failure_from_error
from atelier_server.execution.attempt import Attempt
from atelier_server.metrics import GENERATION_SECONDS, GENERATIONS, QUEUE_SECONDS
from atelier_server.store.protocol import ClaimLostError, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0  # between attempts to write to a store that raises


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttemptFinalizer:
    """Records the end of attempts. Every method may raise ClaimLostError; then nothing was recorded."""

    supervisor: EngineSupervisor
    store: Store
    artifacts: ArtifactStore
    decider: Decider
    exporter: OutputExporter | None

    async def succeed(self, attempt: Attempt) -> None:
        """Record that the engine made every output."""
        generation = attempt.generation
        generation.state = State.STATE_SUCCEEDED
        attempt.record_end(AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED)
        await self._export(generation)
        _log.info("generation_succeeded")
        generation = await self.store.finish(attempt.claim, generation, attempt.last_snapshot)
        self._observe_metrics(generation)
        GENERATION_SECONDS.labels(self.supervisor.name).observe(
            _seconds_between(generation.create_time, generation.end_time)
        )
        if not generation.receipt.cached:  # its time is not that of the engine
            self.supervisor.record_service_time(
                _seconds_between(attempt.started, generation.end_time)
            )
        if generation.receipt.HasField("cost"):
            self.supervisor.add_spending(
                generation.receipt.cost.amount, generation.receipt.cost.currency
            )

    async def fail(self, attempt: Attempt, error: BaseException) -> None:
        """Record a failure, or requeue on a fallback if there is one and repeating the task is safe."""
        self.supervisor.check_requested.set()
        failure = _to_failure(error)
        attempt.record_end(AttemptOutcome.ATTEMPT_OUTCOME_FAILED, failure)
        route = await self._find_fallback(attempt, error)
        if route is None:
            _log.warning(
                "generation_failed", extra={"reason": failure.reason, "error": failure.message}
            )
            await self._finish_failed(attempt, failure)
        else:
            _log.warning(
                "generation_requeued",
                extra={
                    "reason": failure.reason,
                    "error": failure.message,
                    "fallback": route.engine.name,
                },
            )
            await self._requeue_on_engine(attempt, route)

    async def cancel(self, attempt: Attempt) -> None:
        """Record that the generation was cancelled while it was running."""
        generation = attempt.generation
        stopped = self.supervisor.engine.capabilities.cancel is CancelSupport.STEP
        generation.state = State.STATE_CANCELLED
        generation.cancel_outcome = (
            CancelOutcome.CANCEL_OUTCOME_STOPPED
            if stopped
            else CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
        )
        generation.stopped_at_step = attempt.step
        attempt.record_end(AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED)
        _log.info("generation_cancelled", extra={"step": attempt.step})
        await self._finish_without_outputs(attempt)

    async def fail_until_recorded(self, attempt: Attempt, error: Exception) -> None:
        """Record as failed an attempt whose result could not be recorded; repeats until the store accepts it."""
        failure = _to_failure(error)
        attempt.record_end(AttemptOutcome.ATTEMPT_OUTCOME_FAILED, failure)
        while True:
            try:
                await self._finish_failed(attempt, failure)
            except ClaimLostError:
                return
            except Exception:  # noqa: BLE001 (the disk may be full, and have space again later)
                _log.exception("failure_not_recorded", extra={"retry_seconds": _RETRY_SECONDS})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _finish_failed(self, attempt: Attempt, failure: Failure) -> None:
        attempt.generation.state = State.STATE_FAILED
        attempt.generation.failure.CopyFrom(failure)
        await self._finish_without_outputs(attempt)

    async def _finish_without_outputs(self, attempt: Attempt) -> None:
        """Finish without outputs, and delete those that were stored already."""
        written = [output.artifact.id for output in attempt.generation.outputs]
        del attempt.generation.outputs[:]
        ended = await self.store.finish(attempt.claim, attempt.generation, attempt.last_snapshot)
        for artifact_id in written:
            await self.artifacts.discard(artifact_id)
        self._observe_metrics(ended)

    async def _find_fallback(self, attempt: Attempt, error: BaseException) -> Route | None:
        if not isinstance(error, EngineError) or not error.repeatable:
            return None
        tried = [before.engine for before in attempt.generation.receipt.attempts]
        claim = attempt.claim
        try:
            return await self.decider.decide_fallback(
                claim.request, claim.caller, attempt.generation.id, tried
            )
        except ServiceError:
            return None  # its input images are gone

    async def _requeue_on_engine(self, attempt: Attempt, route: Route) -> None:
        generation = attempt.generation
        written = [output.artifact.id for output in generation.outputs]
        route.describe_in(generation)
        del generation.outputs[:]
        del generation.receipt.timings[:]
        generation.receipt.ClearField("recipe")
        task = encode_task(route.resolved.task)
        await self.store.requeue_on_engine(attempt.claim, generation, task)
        for artifact_id in written:
            await self.artifacts.discard(artifact_id)

    async def _export(self, generation: Generation) -> None:
        """Export the outputs under readable names, if configured; an error is logged, and the outputs stay stored."""
        if self.exporter is None:
            return
        for index, output in enumerate(generation.outputs):
            try:
                data = await self.artifacts.read_output(output.artifact)
                path = await self.exporter.export(generation, output, index, data)
            except (OSError, DataLossError):
                _log.exception("export_failed", extra={"artifact": output.artifact.id})
            else:
                output.uri = path.absolute().as_uri()

    def _observe_metrics(self, generation: Generation) -> None:
        outcome = State.Name(generation.state).removeprefix("STATE_").lower()
        GENERATIONS.labels(self.supervisor.name, outcome).inc()
        QUEUE_SECONDS.labels(self.supervisor.name).observe(
            _seconds_between(generation.create_time, generation.start_time)
        )


def _to_failure(error: BaseException) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(
            reason="DEADLINE_EXCEEDED",
            code=CODES["DEADLINE_EXCEEDED"].value[0],
            message="timed out while running",
            retryable=True,
        )
    if not isinstance(error, Exception):
        raise error  # the interpreter is shutting down
    failure = failure_from_error(error)
    if failure.reason == "INTERNAL":
        _log.error("internal_error", exc_info=error)
    return failure


def _seconds_between(start: Timestamp, end: Timestamp) -> float:
    return max(0.0, (end.ToMicroseconds() - start.ToMicroseconds()) / 1e6)
