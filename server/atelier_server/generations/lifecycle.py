"""The life of a generation as callers see it: plan, submit, follow, list, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

from atelier.v1.generation_pb2 import CancelCause, CancelOutcome, Generation, State
from atelier.v1.generation_service_pb2 import (
    CancelGenerationResponse,
    GenerateRequest,
    ListGenerationsRequest,
    ListGenerationsResponse,
    PlanGenerationResponse,
)
from atelier_server.admission.decide import Decider
from atelier_server.admission.gates import (
    Applicant,
    require_admission,
    require_attainable_deadline,
)
from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.clock import steady_time
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.engines.status import EngineStatus
from atelier_server.errors import (
    NotFoundError,
    QueuedQuotaError,
    QueueFullError,
    ServiceError,
    StorageError,
)
from atelier_server.estimates.service_times import Work
from atelier_server.generations.abandonment import Abandonment
from atelier_server.generations.callers import Callers, Sender
from atelier_server.generations.digests import compute_digest
from atelier_server.generations.pages import Pages
from atelier_server.generations.planning import describe_plan
from atelier_server.generations.remote_jobs import continues_job
from atelier_server.generations.repeated_calls import RETRY_WINDOW_SECONDS, RepeatedCalls
from atelier_server.generations.submissions import build_submission
from atelier_server.generations.tenant_quotas import TenantQuotas
from atelier_server.ids import new_id
from atelier_server.store.generation_meter import GenerationMeter
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import (
    ENDED,
    CancelResult,
    Event,
    Store,
    SubmitResult,
    may_run_again,
)


@dataclass(slots=True, eq=False)
class GenerationLifecycle:
    """Accepts generations, and answers every question about them."""

    store: Store
    decider: Decider
    limits: LimitSettings
    storage: StorageMonitor
    quotas: TenantQuotas
    draining: bool = False
    """Whether the server is shutting down; if so, nothing new is accepted."""
    _meter: GenerationMeter = field(default_factory=GenerationMeter)
    _callers: Callers = field(default_factory=Callers)
    _repeated: RepeatedCalls = field(default_factory=RepeatedCalls)
    _abandonment: Abandonment = field(init=False)
    _pages: Pages = field(init=False)
    _turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(
        default_factory=WeakValueDictionary
    )

    def __post_init__(self) -> None:
        """Count and time what the store tells from now on."""
        self.store.observe(self._meter.follow)
        self.store.observe(self._meter.forget_ended, everywhere=True)
        self._pages = Pages(self.store)
        self._abandonment = Abandonment(
            store=self.store,
            storage=self.storage,
            callers=self._callers,
            meter=self._meter,
            grace_seconds=self.limits.abandoned_grace_seconds,
            is_draining=lambda: self.draining,
        )

    async def submit(self, request: GenerateRequest, sender: Sender) -> SubmitResult:
        """Accept the request, or find the generation that the same request made before. Changes the request.

        A generation that was cancelled because its callers were lost is accepted again, once it has ended.

        Raises:
            ServiceError: the request is rejected; nothing was stored.
        """
        digest = (
            await asyncio.to_thread(compute_digest, request)
            if request.attachments
            else compute_digest(request)
        )
        if request.request_id:
            return await self._attach_or_accept(request, sender, digest)
        try:
            if sender.repeated and not self._repeated.take_rejection(sender.caller, digest):
                ended_after = steady_time() - RETRY_WINDOW_SECONDS
                earlier = await self.store.find_unnamed(sender.caller, digest, ended_after)
                with self._repeated.choose(earlier, self._callers) as request.request_id:
                    return await self._attach_or_accept(request, sender, digest)
            return await self._attach_or_accept(request, sender, digest)
        except ServiceError:
            self._repeated.add_rejection(sender.caller, digest)
            raise

    async def _attach_or_accept(
        self, request: GenerateRequest, sender: Sender, digest: bytes
    ) -> SubmitResult:
        """Accept the request, or find its generation; one that is being cancelled is awaited first."""
        while True:
            async with self._turn(sender.caller, request.request_id):
                submitted = await self._find_or_accept(request, sender, digest)
            generation = submitted.generation
            if submitted.created:
                self._callers.record_start(generation.id)
                return submitted
            if generation.state in ENDED:
                return submitted
            is_stopping = await self._abandonment.is_stopping(generation.id)
            if not is_stopping and await self._abandonment.join(submitted, again=False):
                return submitted
            with suppress(NotFoundError):  # deleted meanwhile
                await self.store.wait_ended(sender.caller, generation.id)

    def _turn(self, caller: str, request_id: str) -> asyncio.Lock | nullcontext[None]:
        """Calls with the same request id take turns: the first decodes and stores, the others find its generation."""
        if not request_id:
            return nullcontext()
        return self._turns.setdefault((caller, request_id), asyncio.Lock())

    async def _find_or_accept(
        self, request: GenerateRequest, sender: Sender, digest: bytes
    ) -> SubmitResult:
        caller, before = sender.caller, None
        if request.request_id:
            before = await self.store.find_by_request_id(caller, request.request_id, digest)
        if before is not None and not may_run_again(before.generation):
            return before
        generation_id = before.generation.id if before is not None else new_id()
        route = await self.decider.decide(
            request, caller, generation_id, admit=partial(self._require_admission, request, caller)
        )
        work = Work.of(route.resolved.task)
        applicant = self._to_applicant(request, caller, route.engine)
        require_attainable_deadline(applicant, work, _tighten(sender.seconds_left, request))
        inputs = self.decider.inputs
        attached = await inputs.store_attachments(request, caller) if request.attachments else ()
        submission = build_submission(
            generation_id=generation_id,
            request=request,
            sender=sender,
            route=route,
            digest=digest,
            keep_remote_handle=before is not None and continues_job(before.generation, route),
            share=self.quotas.find_share(caller, route.resolved.task),
            allowance=self.quotas.find_allowance(caller),
        )
        if not submission.inputs:
            self.decider.hand_over(submission.generation.id, submission.task, route)
        backlog = self.decider.router.engines.backlog
        # before events tell that it runs
        trace = sender.metadata.trace_context
        self._meter.expect(generation_id, batch=applicant.batch, trace_context=trace)
        backlog.add(generation_id, route.engine.name, work, caller, batch=applicant.batch)
        accepted = False
        try:
            submitted = await self.store.submit(submission)
            accepted = submitted.created
            if accepted and before is not None:
                await self._abandonment.join(submitted, again=True)
            return submitted
        except StorageError as error:
            self.storage.report(error)
            raise
        except ServiceError as error:
            _add_retry_delay(error, applicant)
            await inputs.delete_attachments(attached)
            raise
        except asyncio.CancelledError:  # it may be accepted all the same
            self._abandonment.abandon_submitted(submission)
            raise
        finally:
            if not accepted:
                backlog.remove(generation_id)
                self._meter.forget(generation_id)

    @property
    def rejection_reason(self) -> str:
        """Why no new work is accepted, whatever its engine; empty if it is."""
        return "the server is shutting down" if self.draining else self.storage.message

    @property
    def unready_reason(self) -> str:
        """Why the server is not ready: it refuses new work, or the engines for it can't work; empty if it is."""
        return self.rejection_reason or self.decider.router.engines.explain_unready()

    async def plan(self, request: GenerateRequest, caller: str) -> PlanGenerationResponse:
        """What `submit` would do with the request now.

        Raises:
            ServiceError: the request is invalid, or no engine can do it; other rejections are part of the plan.
        """
        route = await self.decider.decide(request, caller, new_id())
        over_quota = await self.quotas.find_rejection(caller, route.resolved.task)
        applicant = self._to_applicant(request, caller, route.engine)
        return await describe_plan(route, applicant, request, over_quota)

    async def wait_result(
        self, submitted: SubmitResult, caller: str, has_timed_out: Callable[[], bool]
    ) -> Generation:
        """Wait for the end of a generation that this call submitted.

        If the last such call is cancelled first, the generation is abandoned, unless it was accepted ON_ACCEPTANCE.
        `has_timed_out` tells whether the call has reached its deadline.
        """
        generation_id = submitted.generation.id
        async with self._abandonment.attend(
            generation_id, caller, has_timed_out, started=submitted.ends_with_callers
        ):
            return await self.store.wait_ended(caller, generation_id)

    async def follow_submitted(
        self, submitted: SubmitResult, caller: str, after: int, has_timed_out: Callable[[], bool]
    ) -> AsyncGenerator[Event]:
        """Follow a generation that this call submitted; it is abandoned with the call, as in `wait_result`."""
        generation_id = submitted.generation.id
        started = submitted.ends_with_callers
        async with (
            self._abandonment.attend(generation_id, caller, has_timed_out, started=started),
            aclosing(self._watch(generation_id, after)) as events,
        ):
            async for event in events:
                yield event

    async def follow(
        self, generation_id: str, caller: str, after: int, has_timed_out: Callable[[], bool]
    ) -> AsyncGenerator[Event]:
        """Every event with a greater sequence than `after`, as it happens, to the last; repetitions in between.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
        await self.get(generation_id, caller)
        async with (
            self._abandonment.attend(
                generation_id, caller, has_timed_out, started=False, follows=True
            ),
            aclosing(self._watch(generation_id, after)) as events,
        ):
            async for event in events:
                yield event

    def _watch(self, generation_id: str, after: int) -> AsyncGenerator[Event]:
        silence = self.limits.max_silence_seconds
        return self.store.watch(generation_id, after, max_silence_seconds=silence)

    async def get(self, generation_id: str, caller: str) -> Generation:
        """The current record of the generation.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
        return await self.store.get(caller, generation_id)

    async def list(self, request: ListGenerationsRequest, caller: str) -> ListGenerationsResponse:
        """One page of the caller's generations, newest first.

        Raises:
            InvalidRequestError: the page token is invalid, or belongs to another query.
        """
        return await self._pages.list(request, caller)

    async def cancel(
        self, generation_id: str, caller: str, *, may_run_again: bool = False
    ) -> CancelGenerationResponse:
        """Cancel the generation, on purpose or as for lost callers, and wait until it has ended.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
        cause = CancelCause.CANCEL_CAUSE_REQUESTED
        if may_run_again:
            cause = CancelCause.CANCEL_CAUSE_CALLERS_LOST
        with self._callers.stopping(generation_id) if may_run_again else nullcontext():
            found = await self.store.cancel(caller, generation_id, cause)
            generation = await self.store.wait_ended(caller, generation_id)
        outcome = generation.cancel_outcome
        if found is CancelResult.TOO_LATE or generation.state != State.STATE_CANCELLED:
            outcome = CancelOutcome.CANCEL_OUTCOME_TOO_LATE
        return CancelGenerationResponse(
            outcome=outcome, stopped_at_step=generation.stopped_at_step, generation=generation
        )

    async def _require_admission(
        self, request: GenerateRequest, caller: str, engine: EngineStatus
    ) -> None:
        await require_admission(self._to_applicant(request, caller, engine))

    def _to_applicant(
        self, request: GenerateRequest, caller: str, engine: EngineStatus
    ) -> Applicant:
        batch = is_batch(request)
        return Applicant(
            batch=batch,
            caller=caller,
            engine=engine,
            statuses=self.decider.router.engines,
            draining=self.draining,
            storage_message=self.storage.message,
            queue_depth=partial(self.store.queue_depth, engine.name, caller, batch=batch),
        )


def _tighten(seconds_left: float | None, request: GenerateRequest) -> float | None:
    """The time left, or the request's timeout if that is shorter."""
    if not request.HasField("timeout"):
        return seconds_left
    timeout = request.timeout.ToMicroseconds() / 1e6
    return timeout if seconds_left is None else min(timeout, seconds_left)


def _add_retry_delay(error: ServiceError, applicant: Applicant) -> None:
    """Say when a queue, or the tenant's part of it, that is full now may have room."""
    statuses = applicant.statuses
    if isinstance(error, QueueFullError):
        error.retry_after_seconds = statuses.estimate_retry(applicant.engine, applicant.caller)
    elif isinstance(error, QueuedQuotaError):
        error.retry_after_seconds = statuses.estimate_step(applicant.engine, applicant.caller)
