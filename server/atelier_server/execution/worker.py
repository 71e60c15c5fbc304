"""Executes claimed generations: runs the engine, logs its events, stores its outputs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import AudioProperties, Generation, Output
from atelier_engines import event as engine_event
from atelier_engines import validation
from atelier_engines.closing import Closing, announce
from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.http_calls import collect_calls
from atelier_engines.media import Encoded, Input, Media, Samples
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.wrappers.caching import set_cache_tenant
from atelier_server.admission.decide import Decider
from atelier_server.admission.parameters import describe_made_size, describe_route
from atelier_server.admission.private_texts import hide_quotations
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.canvas import Canvas, lay_out
from atelier_server.artifacts.encode import Encoder
from atelier_server.artifacts.fitting import fit_audio
from atelier_server.artifacts.provenance import build_provenance, find_style_name
from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.clock import steady_time
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.engines.task_codec import decode_task, encode_task
from atelier_server.errors import StorageError, UnsupportedTaskError
from atelier_server.execution.attempt import Attempt, AttemptFinalizer
from atelier_server.execution.attempt_trace import export_attempt
from atelier_server.execution.audio_finishing import finish_audio
from atelier_server.execution.cancelled_jobs import CancelledJobs
from atelier_server.execution.canvas_runs import run_on_canvas
from atelier_server.execution.engine_notes import describe_notes, describe_reuse
from atelier_server.execution.event_writer import EventWriter
from atelier_server.execution.spending_gate import SpendingGate
from atelier_server.execution.work_summary import count_step, describe_claim
from atelier_server.logs import log_fields
from atelier_server.metrics import EAGER_RUNS, REUSED_OUTPUTS, counter
from atelier_server.store.protocol import Claim, ClaimLostError, Store
from atelier_server.tracing.exporter import find_exporter

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0  # between attempts to claim from a store that raises
_ORDER_SECONDS = 5.0  # for a remote service to accept an order when the server stops


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worker:
    """Executes one generation after the other from an engine's queue."""

    supervisor: EngineSupervisor
    store: Store
    storage: StorageMonitor
    artifacts: ArtifactStore
    encoder: Encoder
    decider: Decider
    finalizer: AttemptFinalizer
    cancelled_jobs: CancelledJobs
    spending: SpendingGate | None
    """Keeps the workers of the engine within its daily budget; None if it has none."""

    async def run(self) -> None:
        """Work until cancelled; a generation in progress then returns to its queue."""
        await self.supervisor.ready.wait()
        await self.cancelled_jobs.cancel()
        while True:
            await self.supervisor.ready.wait()
            await self.storage.wait_writable()
            try:
                claim = await (self.spending or self.store).claim(self.supervisor.name)
            except StorageError as error:
                self.storage.report(error)
                continue
            except Exception:  # noqa: BLE001 (the worker goes on)
                _log.exception("claim_failed", extra={"engine": self.supervisor.name})
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                with log_fields(
                    partial(describe_claim, claim), partial(hide_quotations, claim.request)
                ):
                    await self._process(claim)
            finally:
                if self.spending is not None:
                    self.spending.settle(claim)

    async def _process(self, claim: Claim) -> None:
        attempt = Attempt.start(claim)
        try:
            if not self.storage.writable:  # since this worker began to wait for a generation
                await self.finalizer.release(attempt)
                return
            with self.supervisor.count_running():
                attempt.sharing = self.supervisor.status.running
                await self._supervise(attempt)
        except ClaimLostError:
            _log.info("claim_lost")  # another process works on it, or it has ended
        except asyncio.CancelledError:
            try:
                await self.finalizer.release_now(attempt)
                _log.info("generation_released")
            except StorageError:  # the next start requeues it
                _log.exception("release_not_recorded")
            raise
        except Exception as error:  # noqa: BLE001 (the worker goes on with the next generation)
            _log.exception("result_not_recorded")
            await self.finalizer.fail_or_leave(Attempt.start(attempt.claim), error)
        finally:
            export_attempt(attempt)

    async def _supervise(self, attempt: Attempt) -> None:
        """Execute until done, cancelled, or out of time; then record the result."""
        claim = attempt.claim
        _log.info("generation_started")
        execution = asyncio.create_task(self._execute(attempt))
        cancellation = self.store.wait_cancelled(claim)
        left = None if claim.deadline is None else max(0.0, claim.deadline - steady_time())
        try:
            await _wait_for_one(execution, cancellation, timeout_seconds=left)
            cancelled_itself = execution.cancelled()
        except asyncio.CancelledError:  # the server stops; a job at a remote service goes on
            if not cancellation.done() and self.supervisor.engine.capabilities.resumable:
                await _keep_job(attempt)
            raise
        finally:
            if not execution.done():
                execution.cancel()
                await _wait_ended(execution)
        if cancelled_itself:
            await self.finalizer.fail(attempt, RuntimeError("CancelledError without a request"))
        elif execution.cancelled():
            if cancellation.done():
                await self.finalizer.cancel(attempt)
            else:
                await self.finalizer.fail(attempt, TimeoutError())
        elif isinstance(execution.exception(), StorageError):
            await self.finalizer.release(attempt)
        elif isinstance(error := execution.exception(), ClaimLostError):
            raise error
        elif error is not None:
            await self.finalizer.fail(attempt, error)
        else:
            await self.finalizer.succeed(attempt)

    async def _execute(self, attempt: Attempt) -> None:
        """Decode the images and audio of the decided task, run the engine on it, and store what it makes."""
        claim = attempt.claim
        attempt.timer.enter("prepare")
        async with self.decider.load_inputs(claim.request, claim.caller) as inputs:
            task = await self._load_task(attempt, inputs)
            if claim.remote_handle:
                task = replace(task, resume=claim.remote_handle)
            canvas = None
            if isinstance(task, ImageTask) and inputs:
                task, canvas = await asyncio.to_thread(lay_out, task, claim.request.image)
            elif isinstance(task, AudioTask) and inputs:
                task = await asyncio.to_thread(fit_audio, task)
            # Kept to the end of the attempt, when the memory of images and audio is no longer reserved.
            attempt.task = _outline(attempt.claim.task, inputs) if inputs else task
            attempt.record_recipe(self.supervisor.status, task)
            attempt.generation.receipt.cached = await self._run_engine(attempt, task, canvas)

    async def _run_engine(self, attempt: Attempt, task: Task, canvas: Canvas | None) -> bool:
        """Log the engine's events and store its outputs; returns whether they come from its result cache."""
        claim, cached = attempt.claim, False
        attempt.begun = True
        attempt.closing = Closing()
        announce(attempt.closing)
        if find_exporter() is not None:
            attempt.http_calls = collect_calls()
        set_cache_tenant(claim.caller)
        async with (
            EventWriter(self.store, self.storage, attempt) as log,
            aclosing(run_on_canvas(self.supervisor.engine, task, canvas)) as events,
        ):
            async for event in events:
                match event:
                    case engine_event.Stage():
                        await log.write(attempt.record_stage(event))
                    case engine_event.Dispatched():
                        attempt.has_job = True
                        await self.storage.retry(
                            partial(self.store.save_remote_handle, claim, event.handle)
                        )
                    case engine_event.Step():
                        count_step(self.supervisor.name, event)
                        await log.write(attempt.record_step(event))
                    case engine_event.Output():
                        cached = event.cached
                        await self._store_output(attempt, event, task)
                    case _:
                        assert_never(event)
        return cached

    async def _load_task(self, attempt: Attempt, inputs: Mapping[str, Input]) -> Task:
        """The task that was decided at submission, with its images and audio."""
        claim = attempt.claim
        if not claim.task:
            return decode_task(await self._decide_task(attempt), inputs)
        capabilities = self.supervisor.engine.capabilities
        decided = self.decider.decided.take(claim.generation.id, claim.task, capabilities)
        if decided is not None and not inputs:
            return decided
        task = decode_task(claim.task, inputs)
        try:
            validation.validate(capabilities, task)
        except (InvalidTaskError, UnsupportedError) as error:  # it was valid when it was accepted
            msg = (
                f"engine {self.supervisor.name!r} has changed since it accepted this generation, and cannot do its "
                f"task any more: {error}; submit it again, under another request id"
            )
            raise UnsupportedTaskError(msg) from error
        return task

    async def _decide_task(self, attempt: Attempt) -> bytes:
        """Decide a generation accepted by a version that stored no task, and store the decision."""
        claim, generation = attempt.claim, attempt.generation
        route = await self.decider.decide_for_engine(
            self.supervisor.name, claim.request, claim.caller, generation.id
        )
        task = encode_task(route.resolved.task, route.resolved.finishing)
        describe_route(route, generation)
        decided = Generation()
        decided.CopyFrom(generation)
        attempt.claim = replace(claim, generation=decided, task=task)  # what a release writes back
        await self.store.save_task(claim, generation, task)
        return task

    async def _store_output(
        self, attempt: Attempt, output: engine_event.Output, task: Task
    ) -> None:
        before = attempt.timer.stage
        attempt.timer.enter("encode")
        recipe = attempt.generation.receipt.recipe
        recipe.versions.update(output.weights)
        receipt = attempt.generation.receipt
        receipt.memory_bytes = max(receipt.memory_bytes, output.memory_bytes)
        if output.eager_runs:
            counter(EAGER_RUNS, self.supervisor.name).inc(output.eager_runs)
        request = attempt.claim.request
        style = find_style_name(request, self.decider.styles)
        made_of = task
        if output.reused is not None:
            made_of = replace(task, prompt=output.reused.prompt)
            describe_reuse(receipt, output, output.reused)
            counter(REUSED_OUTPUTS, self.supervisor.name).inc()
        describe = partial(
            build_provenance, self.supervisor.name, recipe, made_of, output.seed, style
        )
        media = await finish_audio(self.encoder, output.media, attempt.claim.task, request, receipt)
        encoded = await self.encoder.encode(media, request, describe)
        if output.size_reason:
            _describe_size(attempt, encoded.width, encoded.height, output.size_reason)
        describe_notes(receipt, output.notes, task)
        await self._write_pending(attempt)
        outputs = attempt.generation.outputs
        artifact_id = f"{attempt.generation.id}-{attempt.claim.attempt}-{len(outputs)}"
        made = Output(
            artifact=Artifact(id=artifact_id),
            seed=output.seed,
            flagged=output.flagged,
            audio=_describe_audio(media),
        )
        outputs.append(made)
        attempt.unwritten = encoded
        if output.charge is not None:
            attempt.charges.append(output.charge)
        if not self._may_wait(encoded, is_last=len(outputs) >= _count_outputs(task)):
            await self._write_pending(attempt)
        attempt.timer.enter(before)

    def _may_wait(self, media: Encoded, *, is_last: bool) -> bool:
        """Whether an output is written with the end of its attempt: in the same job, if nothing needs it before."""
        needed = self.finalizer.exporter is not None
        return is_last and not needed and self.artifacts.may_write_at_end(media)

    async def _write_pending(self, attempt: Attempt) -> None:
        """Write the last output, if it is not written yet."""
        media = attempt.unwritten
        if media is None:
            return
        output = attempt.generation.outputs[-1]
        # What the engine has made is held in memory meanwhile: making it again may cost money.
        artifact = await self.storage.retry(
            lambda: self.artifacts.write_output(output.artifact.id, media)
        )
        output.artifact.CopyFrom(artifact)
        attempt.unwritten = None


def _describe_size(attempt: Attempt, width: int, height: int, reason: str) -> None:
    """Write into the receipt that the engine has made an image of another size than that of the task.

    Raises:
        UnsupportedTaskError: the request is strict, and asks for a size.
    """
    request = attempt.claim.request
    changed = describe_made_size(attempt.generation.receipt, width, height, reason)
    if request.strict and not changed <= set(request.strict_except):
        raise UnsupportedTaskError(
            f"width, height: {reason} (refused because the request is strict)"
        )


async def _wait_for_one(*waits: asyncio.Future[None], timeout_seconds: float | None = None) -> None:
    """Wait until one of them is done, or the time has passed. `asyncio.wait` takes three times as long."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not done.done():
            done.set_result(None)

    timer = None if timeout_seconds is None else loop.call_later(timeout_seconds, end)
    for wait in waits:
        wait.add_done_callback(end)
    try:
        await done
    finally:
        for wait in waits:
            wait.remove_done_callback(end)
        if timer is not None:
            timer.cancel()


async def _wait_ended(execution: asyncio.Task[None]) -> None:
    """Wait until the engine has closed the run; a cancellation that comes meanwhile is raised afterwards.

    When the server stops, the engine stops after its workers: before that it tells a remote service to cancel the job.
    """
    waiting = asyncio.ensure_future(asyncio.wait([execution]))
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await waiting
        raise


async def _keep_job(attempt: Attempt) -> None:
    """Have the run closed without stopping its remote job, once an order that is under way is stored."""
    if attempt.closing is not None:
        attempt.closing.keep_job = True
        await attempt.closing.wait_settled(_ORDER_SECONDS)


def _describe_audio(media: Media) -> AudioProperties | None:
    """Length and layout of samples; None for images, and for files, which are not decoded."""
    if not isinstance(media, Samples):
        return None
    samples, channels = media.array.shape
    return AudioProperties(samples=samples, sample_rate=media.sample_rate, channels=channels)


def _count_outputs(task: Task) -> int:
    """How many outputs the task asks for."""
    return len(task.seeds) if isinstance(task, ImageTask) else 1


def _outline(task: bytes, inputs: Mapping[str, Input]) -> Task:
    """The encoded task with images and audio of the same sizes that take no memory."""
    return decode_task(task, {path: one.outline() for path, one in inputs.items()})
