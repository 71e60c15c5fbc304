"""One attempt at a generation in the worker that executes it: its progress, its part of the receipt, and its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1 import generation_pb2 as pb
from atelier.v1.artifact_pb2 import ImageSize
from atelier_engines.capabilities import CancelSupport, Capabilities
from atelier_engines.closing import Closing, Stop
from atelier_engines.errors import EngineError
from atelier_engines.event import Charge, Stage, Step
from atelier_engines.http_calls import HttpCall
from atelier_engines.media import Encoded
from atelier_engines.task import ImageTask, Task
from atelier_server.admission.decide import Decider
from atelier_server.admission.parameters import describe_route
from atelier_server.admission.route import Route
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.export import OutputExporter
from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.clock import current_timestamp
from atelier_server.engines.status import EngineStatus
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.engines.task_codec import encode_task
from atelier_server.errors import DataLossError, ServiceError
from atelier_server.estimates.service_times import Work, measure_service_time
from atelier_server.execution.cancel_outcomes import describe_stop, find_left
from atelier_server.execution.charges import record_charges, take_cost
from atelier_server.execution.failures import to_failure
from atelier_server.execution.stage_timer import StageTimer
from atelier_server.execution.work_summary import count_work, describe_end
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import Claim, ClaimLostError, Event, Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0  # between attempts to write to a store that raises
_MAX_TRIES = 3  # for reasons other than the storage


@dataclass(slots=True, eq=False)
class Attempt:
    """What has happened so far, and the record that it will be written into."""

    claim: Claim
    """The right to execute it."""
    generation: pb.Generation
    """A copy of the record, which the attempt completes."""
    started: Timestamp
    """When this attempt began."""
    timer: StageTimer = field(default_factory=StageTimer)
    """Measures the stages."""
    step: int = 0
    """Number of steps that are done."""
    steps: int = 0
    """Total number of steps; 0 while unknown."""
    task: Task | None = None
    """The task that the engine is given; None until it is loaded."""
    sharing: int = 1
    """How many generations, itself included, ran on the engine when it began."""
    unlogged: list[Event] = field(default_factory=list)
    """Events that are to be logged, at the latest with the end of the attempt."""
    unwritten: Encoded | None = None
    """The last output, if it is to be written with the end of the attempt."""
    begun: bool = False
    """Whether the engine's run has begun."""
    closing: Closing | None = None
    """How the run is to be closed, and what became of its work; None before it has begun."""
    charges: list[Charge] = field(default_factory=list)
    """What the service charges for the outputs, as far as it tells."""
    replica: str = ""
    """Address of the instance that runs it, where the engine has several."""
    has_job: bool = False
    """Whether a job at a remote service is known."""
    http_calls: Sequence[HttpCall] = ()
    """Requests that the engine sent to its service, where somebody wants a trace."""
    last_snapshot: Event = field(default_factory=Event)
    """Progress at the end of the attempt; set by `record_end`."""

    @classmethod
    def start(cls, claim: Claim) -> Attempt:
        """Begin an attempt now."""
        generation = pb.Generation()
        generation.CopyFrom(claim.generation)
        return cls(claim, generation, current_timestamp(), has_job=bool(claim.remote_handle))

    def snapshot(self) -> Event:
        """An event that describes the progress now."""
        progress = self.step / self.steps if self.steps else 0.0
        event = Event(stage=self.timer.stage, step=self.step, steps=self.steps, progress=progress)
        if progress:
            seconds = self.timer.total_seconds * (1 / progress - 1)
            event.estimated_remaining.FromMicroseconds(int(seconds * 1e6))
        return event

    def record_stage(self, stage: Stage) -> Event:
        """Record the stage that begins, and the position in a remote queue if it has one; returns the event to log."""
        self.timer.enter(stage.name)
        self.replica = stage.replica or self.replica
        event = self.snapshot()
        if stage.queue_position is not None:
            event.queue_position = stage.queue_position
        return event

    def record_step(self, step: Step) -> Event:
        """Record a step that is done; returns the event to log."""
        self.step, self.steps = step.index, step.total
        event = self.snapshot()
        if step.preview is not None:
            size = ImageSize(width=step.preview.width, height=step.preview.height)
            preview = pb.Preview(
                media_type=step.preview.media_type, data=step.preview.data, size=size
            )
            event.preview.CopyFrom(preview)
        return event

    def record_recipe(self, engine: EngineStatus, task: Task) -> None:
        """Write into the receipt what is needed to repeat the task on the engine."""
        recipe = pb.Recipe(
            engine_type=engine.type,
            model=task.model,
            weights_digest=_find_digest(engine.capabilities, task),
            seeds=task.seeds if isinstance(task, ImageTask) else [task.seed],
            versions=engine.capabilities.versions,
        )
        self.generation.receipt.recipe.CopyFrom(recipe)

    def record_cost(self, engine: EngineStatus) -> None:
        """Write into the receipt what the outputs cost: as the service tells, else by the engine's price.

        To be called after `record_end`, before outputs of no use are removed. A result from the cache costs nothing.
        """
        receipt, made = self.generation.receipt, len(self.generation.outputs)
        if self.task is not None and not receipt.cached and made:
            record_charges(receipt, self.charges, engine=engine, task=self.task, made=made)

    def describe_end(self, outcome: str) -> dict[str, object]:
        """The fields of the log line that says how the generation ended."""
        memory = self.generation.receipt.memory_bytes
        seconds = self.timer.total_seconds
        return describe_end(self.task, outcome, seconds=seconds, memory_bytes=memory)

    def count_work(self) -> None:
        """Count in the metrics what was made; what comes from the cache was not."""
        receipt, made = self.generation.receipt, len(self.generation.outputs)
        if not receipt.cached:
            count_work(
                self.generation.engine,
                self.task,
                steps=self.step,
                outputs=made,
                memory_bytes=receipt.memory_bytes,
            )

    def record_end(
        self, outcome: pb.AttemptOutcome.ValueType, failure: pb.Failure | None = None
    ) -> None:
        """Add the attempt with its outcome, and the time of each stage, to the receipt."""
        engine, receipt = self.generation.engine, self.generation.receipt
        self.last_snapshot = self.snapshot()
        receipt.timings.extend(self.timer.record_timings(engine, self.claim))
        receipt.attempts.add(
            number=self.claim.attempt,
            engine=engine,
            start_time=self.started,
            end_time=current_timestamp(),
            outcome=outcome,
            failure=failure,
            replica=self.replica,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttemptFinalizer:
    """Records the end of attempts. Every method may raise ClaimLostError; then nothing was recorded."""

    supervisor: EngineSupervisor
    store: Store
    storage: StorageMonitor
    artifacts: ArtifactStore
    decider: Decider
    exporter: OutputExporter | None

    async def succeed(self, attempt: Attempt) -> None:
        """Record that the engine made every output."""
        generation = attempt.generation
        generation.state = pb.State.STATE_SUCCEEDED
        attempt.record_end(pb.AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED)
        attempt.record_cost(self.supervisor.status)
        await self._export(generation)
        _log.info("generation_succeeded", extra=attempt.describe_end("succeeded"))
        generation = await self._finish(attempt)
        attempt.count_work()
        self._learn(attempt, generation.receipt)

    def _learn(self, attempt: Attempt, receipt: pb.Receipt) -> None:
        """Learn from the time of a task, unless it continued the remote job of an earlier attempt."""
        seconds = measure_service_time(receipt)
        if attempt.task is not None and seconds is not None and not attempt.claim.remote_handle:
            sharing = max(attempt.sharing, self.supervisor.status.running)
            self.supervisor.learn(Work.of(attempt.task), seconds, sharing=sharing)

    async def fail(self, attempt: Attempt, error: BaseException) -> None:
        """Record a failure, or requeue on a fallback if there is one and repeating the task is safe."""
        self.supervisor.check_requested.set()
        failure = to_failure(error, self.supervisor.hide)
        attempt.record_end(pb.AttemptOutcome.ATTEMPT_OUTCOME_FAILED, failure)
        route = await self._find_fallback(attempt, error)
        if route is None:
            _log.warning(
                "generation_failed",
                extra={
                    **attempt.describe_end("failed"),
                    "reason": failure.reason,
                    "error": failure.message,
                },
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
        generation.state = pb.State.STATE_CANCELLED
        generation.cancel_outcome = describe_stop(
            self.supervisor.engine.capabilities,
            None if attempt.closing is None else attempt.closing.stop,
            begun=attempt.begun or attempt.has_job,
        )
        generation.stopped_at_step = attempt.step
        attempt.record_end(pb.AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED)
        fields = {**attempt.describe_end("cancelled"), "step": attempt.step}
        _log.info("generation_cancelled", extra=fields)
        await self._record_left(attempt)
        await self._finish_without_outputs(attempt)

    async def _record_left(self, attempt: Attempt) -> None:
        """Store what is left of the remote jobs, before the end: if the generation runs again, it continues with it."""
        if not attempt.has_job:
            return
        left = find_left(self.supervisor.engine.capabilities, attempt.closing)
        if left is not None:
            await self.storage.retry(partial(self.store.save_remote_handle, attempt.claim, left))

    async def fail_or_leave(self, attempt: Attempt, error: Exception) -> None:
        """Record as failed an attempt whose result could not be recorded.

        A fault of the storage is waited out. What fails for another reason several times is left to the next start
        of the server: it would fail for ever, and keep the worker from other generations.
        """
        failure = to_failure(error, self.supervisor.hide)
        attempt.record_end(pb.AttemptOutcome.ATTEMPT_OUTCOME_FAILED, failure)
        for _ in range(_MAX_TRIES):
            try:
                await self._finish_failed(attempt, failure)
            except ClaimLostError:
                return
            except Exception:  # noqa: BLE001 (whatever it is)
                _log.exception("failure_not_recorded", extra={"retry_seconds": _RETRY_SECONDS})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
        _log.error("generation_left", extra={"tries": _MAX_TRIES})

    async def release(self, attempt: Attempt) -> None:
        """Return the generation to its queue because of a fault of the storage, once that can be recorded."""
        _log.warning("generation_released")
        await self.storage.retry(lambda: self.release_now(attempt))

    async def release_now(self, attempt: Attempt) -> None:
        """Return the generation to its queue, with the handle of its remote job if that may go on.

        Raises:
            StorageError: that cannot be recorded.
        """
        capabilities = self.supervisor.engine.capabilities
        kept = (
            not attempt.begun  # the job of an earlier attempt was not touched
            or capabilities.resumable
            or capabilities.cancel is CancelSupport.NONE
        )
        await self.store.release(
            attempt.claim,
            started=attempt.started,
            keep_remote_handle=kept,
            cancel_outcome=describe_stop(
                capabilities,
                Stop.MAY_GO_ON if kept and attempt.has_job else None,
                begun=attempt.begun or attempt.has_job,
            ),
        )

    async def _finish(self, attempt: Attempt) -> pb.Generation:
        """Record the end, as soon as the storage permits: the work is done, and is not repeated."""
        generation = await self.storage.retry(
            lambda: self.store.finish(
                attempt.claim,
                attempt.generation,
                attempt.last_snapshot,
                unlogged=attempt.unlogged,
                before=self._prepare_writing(attempt),
            )
        )
        self.supervisor.add_spending(generation.receipt.cost)
        return generation

    def _prepare_writing(self, attempt: Attempt) -> Callable[[pb.Generation], None] | None:
        """What writes the output that is not written yet; None if there is none."""
        media = attempt.unwritten
        if media is None:
            return None
        self.artifacts.hold(attempt.generation.outputs[-1].artifact.id, media)

        def write(generation: pb.Generation) -> None:
            output = generation.outputs[-1]
            output.artifact.CopyFrom(self.artifacts.write_output_now(output.artifact.id, media))

        return write

    async def _finish_failed(self, attempt: Attempt, failure: pb.Failure) -> None:
        attempt.generation.state = pb.State.STATE_FAILED
        attempt.generation.failure.CopyFrom(failure)
        await self._finish_without_outputs(attempt)

    async def _finish_without_outputs(self, attempt: Attempt) -> None:
        """Finish without outputs, and delete those that were stored already; what they have cost is recorded."""
        attempt.record_cost(self.supervisor.status)
        written = [output.artifact.id for output in attempt.generation.outputs]
        del attempt.generation.outputs[:]
        attempt.unwritten = None
        await self._finish(attempt)
        await self.artifacts.discard(*written)

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
        attempt.record_cost(self.supervisor.status)
        spent = take_cost(generation.receipt)
        describe_route(route, generation)
        del generation.outputs[:]
        del generation.receipt.timings[:]
        generation.receipt.ClearField("recipe")
        task = encode_task(route.resolved.task, route.resolved.finishing)
        work = Work.of(route.resolved.task)
        self.decider.router.engines.backlog.add(
            generation.id, route.engine.name, work, attempt.claim.caller, batch=is_batch(generation)
        )
        await self.storage.retry(
            lambda: self.store.requeue_on_engine(
                attempt.claim, generation, task, spent=spent.amount
            )
        )
        self.supervisor.add_spending(spent)
        await self.artifacts.discard(*written)

    async def _export(self, generation: pb.Generation) -> None:
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


def _find_digest(capabilities: Capabilities, task: Task) -> str:
    side = capabilities.image if isinstance(task, ImageTask) else capabilities.audio
    models = side.models if side is not None else ()
    return next((model.digest for model in models if model.name == task.model), "")
