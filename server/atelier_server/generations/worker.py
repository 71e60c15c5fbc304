"""Works on claimed generations: has the engine do the task, logs what happens, records how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import assert_never

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import ImageSize
from atelier.v1.generation_pb2 import (
    AttemptOutcome,
    CancelOutcome,
    Failure,
    Generation,
    Output,
    Preview,
    State,
)
from atelier_engines import event as engine_event
from atelier_engines.capabilities import CancelSupport
from atelier_engines.errors import EngineError
from atelier_server.artifacts.encode import as_asked, encode
from atelier_server.artifacts.filing import Filing
from atelier_server.artifacts.library import Library
from atelier_server.errors import CODES, ServiceError, failure_of
from atelier_server.generations import receipt
from atelier_server.generations.inputs import InputLoader
from atelier_server.generations.journal import Journal
from atelier_server.generations.pool import Pool
from atelier_server.generations.resolve import Resolved, Resolver
from atelier_server.generations.router import Router
from atelier_server.generations.stopwatch import Stopwatch
from atelier_server.identity import seed_of
from atelier_server.logs import bound
from atelier_server.metrics import GENERATION_SECONDS, GENERATIONS, QUEUE_SECONDS
from atelier_server.store.contract import Claim, ClaimLostError, Event, Store

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 1.0  # between attempts to write to a store that can't


@dataclass(slots=True, eq=False)
class _Work:
    """One attempt at a generation, as far as it has come."""

    claim: Claim
    generation: Generation
    started: Timestamp = field(default_factory=Timestamp)
    clock: Stopwatch = field(default_factory=Stopwatch)
    step: int = 0
    steps: int = 0

    def snapshot(self) -> Event:
        """An event that says where the work stands."""
        progress = self.step / self.steps if self.steps else 0.0
        return Event(stage=self.clock.stage, step=self.step, steps=self.steps, progress=progress)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worker:
    """Takes one generation after the other from an engine's queue."""

    pool: Pool
    store: Store
    library: Library
    inputs: InputLoader
    router: Router
    resolver: Resolver
    filing: Filing | None

    async def work(self) -> None:
        """Work until cancelled; what is in hand then is given back to the queue."""
        while True:
            await self.pool.ready.wait()
            try:
                claim = await self.store.claim(self.pool.name)
            except Exception:  # noqa: BLE001 (the disk may be full, and have room again later)
                _log.exception("nothing can be taken from the queue of %s", self.pool.name)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            with bound(generation=claim.generation.id, attempt=claim.attempt):
                await self._take_on(claim)

    async def _take_on(self, claim: Claim) -> None:
        try:
            with self.pool.busy():
                await self._supervise(_Work(claim, _copy(claim.generation)))
        except ClaimLostError:
            _log.warning("the claim was lost; what was made is thrown away")
        except asyncio.CancelledError:
            goes_on = self.pool.capabilities.cancel is CancelSupport.NONE
            await self.store.release(claim, keep_handle=goes_on)
            raise
        except Exception as error:  # noqa: BLE001 (one bad end must not be the worker's)
            _log.exception("its end could not be recorded")
            await self._give_up(_Work(claim, _copy(claim.generation)), _failure(error))

    async def _give_up(self, work: _Work, failure: Failure) -> None:
        """Record that the generation failed, however long the store takes to let us."""
        work.generation.state = State.STATE_FAILED
        work.generation.failure.CopyFrom(failure)
        self._attempt(work, AttemptOutcome.ATTEMPT_OUTCOME_FAILED, failure)
        while True:
            try:
                await self._finish_empty(work)
            except ClaimLostError:
                return
            except Exception:  # noqa: BLE001 (see `work`)
                _log.exception("its failure could not be recorded either; trying again")
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _supervise(self, work: _Work) -> None:
        """Perform, until done, told to cancel, or out of time; then record the end."""
        claim = work.claim
        work.started.GetCurrentTime()
        _log.info("taken up")
        performing = asyncio.create_task(self._perform(work))
        cancelling = asyncio.create_task(self.store.cancelled(claim))
        left = None if claim.deadline is None else max(0.0, claim.deadline - time.time())
        try:
            await asyncio.wait(
                [performing, cancelling], timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            performing.cancel()  # no effect when it is done
            cancelling.cancel()
            await asyncio.wait([performing, cancelling])
        if not performing.cancelled():
            await self._conclude(work, performing.exception())
        elif cancelling.cancelled():
            await self._conclude(work, TimeoutError())
        else:
            await self._cancelled(work)

    async def _perform(self, work: _Work) -> None:
        """Have the engine do the task, and keep what it makes."""
        claim = work.claim
        work.clock.enter("prepare")
        resolved = await self._resolved(claim)
        work.generation.receipt.recipe.CopyFrom(receipt.recipe_of(self.pool, resolved.task))
        task = replace(resolved.task, resume=claim.handle)
        async with (
            Journal(self.store, claim) as journal,
            aclosing(self.pool.engine.run(task)) as events,
        ):
            async for event in events:
                match event:
                    case engine_event.Stage():
                        work.clock.enter(event.name)
                        await journal.write(work.snapshot())
                    case engine_event.Dispatched():
                        await self.store.dispatched(claim, event.handle)
                    case engine_event.Step():
                        await journal.write(_step_event(work, event))
                    case engine_event.Output():
                        await self._keep(work, event)
                    case _:
                        assert_never(event)
        cost = receipt.cost_of(self.pool, resolved.task)
        if cost is not None:
            work.generation.receipt.cost.CopyFrom(cost)

    async def _resolved(self, claim: Claim) -> Resolved:
        pictures = await self.inputs.load(claim.request, claim.caller)
        return self.resolver.resolve(
            claim.request,
            self.pool.capabilities,
            pictures,
            drawn_seed=seed_of(claim.generation.id),
        )

    async def _keep(self, work: _Work, output: engine_event.Output) -> None:
        before = work.clock.stage
        work.clock.enter("encode")
        encoded = as_asked(output.media, work.claim.request)
        if encoded is None:
            encoded = await asyncio.to_thread(encode, output.media, work.claim.request)
        artifact_id = f"{work.generation.id}-{work.claim.attempt}-{len(work.generation.outputs)}"
        artifact = await self.library.write_output(artifact_id, encoded)
        work.generation.outputs.append(
            Output(artifact=artifact, seed=output.seed, flagged=output.flagged)
        )
        work.clock.enter(before)

    async def _conclude(self, work: _Work, error: BaseException | None) -> None:
        """Record success or failure, or hand over to another engine."""
        generation = work.generation
        generation.receipt.timings.extend(work.clock.timings(self.pool.name))
        if error is None:
            generation.state = State.STATE_SUCCEEDED
            self._attempt(work, AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED)
            await self._file(generation)
            await self.store.finish(work.claim, generation)
            self._measure(work)
            if generation.receipt.HasField("cost"):
                self.pool.spend(generation.receipt.cost.amount, generation.receipt.cost.currency)
            return
        self.pool.suspect.set()
        failure = _failure(error)
        self._attempt(work, AttemptOutcome.ATTEMPT_OUTCOME_FAILED, failure)
        if await self._handed_over(work, error):
            return
        generation.state = State.STATE_FAILED
        generation.failure.CopyFrom(failure)
        await self._finish_empty(work)
        _log.warning("failed: %s (%s)", failure.message, failure.reason)

    async def _file(self, generation: Generation) -> None:
        """File the outputs under readable names, if that is wanted. They are safe without."""
        if self.filing is None:
            return
        for index, output in enumerate(generation.outputs):
            try:
                blob = self.library.path_of(output.artifact)
                path = await self.filing.file(generation, output, index, blob)
            except OSError:
                _log.exception("could not file %s", output.artifact.id)
            else:
                output.uri = path.absolute().as_uri()

    async def _handed_over(self, work: _Work, error: BaseException) -> bool:
        """Put the generation into another engine's queue, if that can do no harm and there is one."""
        if not isinstance(error, EngineError) or not error.repeatable:
            return False
        tried = [attempt.engine for attempt in work.generation.receipt.attempts]
        try:
            pictures = await self.inputs.load(work.claim.request, work.claim.caller)
        except ServiceError:
            return False  # its pictures are gone
        seed = seed_of(work.generation.id)
        routes = self.router.fallbacks(
            tried,
            lambda can: self.resolver.resolve(work.claim.request, can, pictures, drawn_seed=seed),
        )
        route = next(routes, None)
        if route is None:
            return False
        generation = work.generation
        generation.engine = route.pool.name
        del generation.outputs[:]
        del generation.receipt.timings[:]
        del generation.receipt.parameters[:]
        generation.receipt.parameters.extend(route.resolved.parameters)
        _log.warning(
            "engine %s failed (%s); %s takes over",
            self.pool.name,
            error.reason.value,
            generation.engine,
        )
        await self.store.hand_over(work.claim, generation)
        return True

    async def _cancelled(self, work: _Work) -> None:
        generation = work.generation
        generation.receipt.timings.extend(work.clock.timings(self.pool.name))
        remote = self.pool.capabilities.cancel is not CancelSupport.STEP
        generation.state = State.STATE_CANCELLED
        generation.cancel_outcome = (
            CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
            if remote
            else CancelOutcome.CANCEL_OUTCOME_STOPPED
        )
        generation.stopped_at_step = work.step
        self._attempt(work, AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED)
        await self._finish_empty(work)
        _log.info("cancelled at step %d", work.step)

    async def _finish_empty(self, work: _Work) -> None:
        """Finish without outputs; blobs that were written already are deleted."""
        written = [output.artifact.id for output in work.generation.outputs]
        del work.generation.outputs[:]
        await self.store.finish(work.claim, work.generation)
        for artifact_id in written:
            await self.library.discard(artifact_id)
        self._measure(work)

    def _attempt(
        self, work: _Work, outcome: AttemptOutcome.ValueType, failure: Failure | None = None
    ) -> None:
        receipt.add_attempt(work.generation, work.claim.attempt, work.started, outcome, failure)

    def _measure(self, work: _Work) -> None:
        generation = work.generation
        engine = self.pool.name
        GENERATIONS.labels(
            engine, State.Name(generation.state).removeprefix("STATE_").lower()
        ).inc()
        QUEUE_SECONDS.labels(engine).observe(
            _between(generation.create_time, generation.start_time)
        )
        if generation.state == State.STATE_SUCCEEDED:
            GENERATION_SECONDS.labels(engine).observe(
                _between(generation.create_time, generation.end_time)
            )
            self.pool.record(_between(work.started, generation.end_time))
            _log.info("succeeded")


def _step_event(work: _Work, step: engine_event.Step) -> Event:
    work.step, work.steps = step.index, step.total
    event = work.snapshot()
    if step.preview is not None:
        size = ImageSize(width=step.preview.width, height=step.preview.height)
        event.preview.CopyFrom(
            Preview(media_type=step.preview.media_type, data=step.preview.data, size=size)
        )
    return event


def _copy(generation: Generation) -> Generation:
    copy = Generation()
    copy.CopyFrom(generation)
    return copy


def _failure(error: BaseException) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(
            reason="DEADLINE_EXCEEDED",
            code=CODES["DEADLINE_EXCEEDED"].value[0],
            message="its time ran out while the engine worked on it",
            retryable=True,
        )
    if not isinstance(error, Exception):
        raise error  # the interpreter is going down
    failure = failure_of(error)
    if failure.reason == "INTERNAL":
        _log.error("the server failed", exc_info=error)
    return failure


def _between(start: Timestamp, end: Timestamp) -> float:
    return max(0.0, (end.ToMicroseconds() - start.ToMicroseconds()) / 1e6)
