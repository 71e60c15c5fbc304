"""The service's one door to generations: submit, follow, cancel, plan."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from atelier.v1.generation_pb2 import CancelOutcome, Failure, Generation, State
from atelier.v1.generation_service_pb2 import (
    CancelGenerationResponse,
    GenerateRequest,
    ListGenerationsRequest,
    ListGenerationsResponse,
    PlanGenerationResponse,
    ResponseMode,
)
from atelier_engines.media import Pixels
from atelier_server.admission.inputs import InputLoader, list_artifact_ids
from atelier_server.admission.resolve import Resolver
from atelier_server.admission.router import Route, Router
from atelier_server.errors import (
    DeadlineUnattainableError,
    DrainingError,
    NotFoundError,
    QueueFullError,
    ServiceError,
    failure_from_error,
)
from atelier_server.execution import receipt
from atelier_server.generations import page_tokens
from atelier_server.ids import new_id, random_seed
from atelier_server.metrics import GENERATIONS
from atelier_server.store.protocol import CancelResult, Event, Metadata, Query, Store, Submission


@dataclass(slots=True, eq=False)
class GenerationLifecycle:
    """Accepts tasks and tells what becomes of them."""

    store: Store
    inputs: InputLoader
    router: Router
    resolver: Resolver
    draining: bool = False
    """While set, nothing new is accepted."""
    _waiting_calls: Counter[str] = field(default_factory=Counter)
    _cancellations: set[asyncio.Task[CancelResult]] = field(default_factory=set)

    async def submit(
        self,
        request: GenerateRequest,
        caller: str,
        *,
        seconds_left: float | None,
        metadata: Metadata,
    ) -> Generation:
        """Accept the request, or find what the same request made before. Takes the request over.

        `seconds_left` is the time until nobody waits for the answer any more; None is for ever.

        Raises:
            ServiceError: it is refused, nothing was kept, and the error says why.
        """
        digest = _compute_digest(request)
        if request.request_id:
            before = await self.store.find_by_request_id(caller, request.request_id, digest)
            if before is not None:
                return before
        self._refuse_when_draining()
        generation_id = new_id()
        route = await self._route(request, caller, generation_id, require_ready=True)
        seconds_left = _tighten(seconds_left, request)
        await self._require_feasible(route, seconds_left)
        await self.inputs.store_attachments(request, caller)
        submission = replace(
            _build_submission(generation_id, request, caller, route, digest), metadata=metadata
        )
        try:
            return (await self.store.submit(submission)).generation
        except asyncio.CancelledError:  # it may be accepted all the same
            if request.response_mode != ResponseMode.RESPONSE_MODE_ON_ACCEPTANCE:
                await self._cancel_for_caller(generation_id, caller)
            raise

    async def plan(self, request: GenerateRequest, caller: str) -> PlanGenerationResponse:
        """What `submit` would do with the request.

        Raises:
            ServiceError: it would be refused for what it is; an rejection of the moment is part of the answer.
        """
        route = await self._route(request, caller, new_id(), require_ready=False)
        pool = route.engine
        plan = PlanGenerationResponse(
            engine=pool.name,
            parameters=route.resolved.parameters,
            cost=receipt.estimate_cost(pool, route.resolved.task),
        )
        wait = pool.backlog_seconds(await self.store.queue_depth(pool.name))
        if wait is not None and pool.service_seconds is not None:
            plan.estimated_wait.FromMicroseconds(int(wait * 1e6))
            plan.estimated_duration.FromMicroseconds(int(pool.service_seconds * 1e6))
        rejection = await self._find_rejection(route, request)
        if rejection is None:
            plan.accepted = True
        else:
            plan.rejection.CopyFrom(rejection)
        return plan

    async def _find_rejection(self, route: Route, request: GenerateRequest) -> Failure | None:
        try:
            self._refuse_when_draining()
            self.router.require_ready(route.engine)
            await self._require_feasible(route, _tighten(None, request))
            queued = await self.store.queue_depth(route.engine.name)
            if queued >= route.engine.settings.queue_limit:
                msg = f"{queued} generations wait for engine {route.engine.name!r} already"
                raise QueueFullError(msg)
        except ServiceError as error:
            return failure_from_error(error)
        return None

    async def wait_result(
        self, generation_id: str, request: GenerateRequest, caller: str
    ) -> Generation:
        """Wait for the end of a generation that this call submitted.

        When the last such call hangs up, the generation is cancelled, unless it was to run on its own.
        """
        async with self._cancel_if_abandoned(generation_id, request, caller):
            return await self.store.wait_ended(caller, generation_id)

    async def follow_submitted(
        self, generation_id: str, request: GenerateRequest, caller: str, after: int
    ) -> AsyncGenerator[Event]:
        """Follow a generation that this call submitted; hanging up is as for `result`."""
        async with (
            self._cancel_if_abandoned(generation_id, request, caller),
            aclosing(self.follow(generation_id, caller, after)) as events,
        ):
            async for event in events:
                yield event

    async def follow(self, generation_id: str, caller: str, after: int) -> AsyncGenerator[Event]:
        """Every event after that number, as it happens, to the end.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
        await self.get(generation_id, caller)
        async with aclosing(self.store.watch(generation_id, after)) as events:
            async for event in events:
                yield event

    async def get(self, generation_id: str, caller: str) -> Generation:
        """The generation as it stands.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
        return await self.store.get(caller, generation_id)

    async def list(self, request: ListGenerationsRequest, caller: str) -> ListGenerationsResponse:
        """One page of the caller's generations, newest first.

        Raises:
            InvalidRequestError: the page token is not one of ours, or belongs to another query.
        """
        size = page_tokens.page_size(request)
        query = Query(
            caller=caller,
            limit=size + 1,
            before=page_tokens.decode(request),
            engine=request.engine,
            states=tuple(request.states),
        )
        found = await self.store.list(query)
        token = page_tokens.encode(request, found[size - 1].id) if len(found) > size else ""
        return ListGenerationsResponse(generations=found[:size], next_page_token=token)

    async def cancel(self, generation_id: str, caller: str) -> CancelGenerationResponse:
        """Stop the generation; answers when it has ended.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """
        found = await self._cancel(generation_id, caller)
        generation = await self.store.wait_ended(caller, generation_id)
        outcome = generation.cancel_outcome
        if found is CancelResult.TOO_LATE or generation.state != State.STATE_CANCELLED:
            outcome = CancelOutcome.CANCEL_OUTCOME_TOO_LATE
        return CancelGenerationResponse(
            outcome=outcome, stopped_at_step=generation.stopped_at_step, generation=generation
        )

    async def _route(
        self, request: GenerateRequest, caller: str, generation_id: str, *, require_ready: bool
    ) -> Route:
        pictures: Mapping[str, Pixels] = await self.inputs.load(request, caller)
        seed = random_seed(generation_id)
        return self.router.choose(
            request.engine,
            lambda can: self.resolver.resolve(request, can, pictures, drawn_seed=seed),
            require_ready=require_ready,
        )

    async def _require_feasible(self, route: Route, seconds_left: float | None) -> None:
        pool = route.engine
        if seconds_left is None or pool.service_seconds is None:
            return
        wait = pool.backlog_seconds(await self.store.queue_depth(pool.name)) or 0.0
        needed = wait + pool.service_seconds
        if needed > seconds_left:
            msg = (
                f"engine {pool.name!r} would need about {needed:.1f} s, {wait:.1f} s of them in its queue; "
                f"{seconds_left:.1f} s are left: allow more time"
            )
            raise DeadlineUnattainableError(msg)

    def _refuse_when_draining(self) -> None:
        if self.draining:
            msg = "the server is about to stop; try again, another one may answer"
            raise DrainingError(msg)

    @asynccontextmanager
    async def _cancel_if_abandoned(
        self, generation_id: str, request: GenerateRequest, caller: str
    ) -> AsyncGenerator[None]:
        """Cancel the generation if the last call that submitted it hangs up before its end."""
        if request.response_mode == ResponseMode.RESPONSE_MODE_ON_ACCEPTANCE:
            yield
            return
        self._waiting_calls[generation_id] += 1
        left = True
        try:
            yield
            left = False
        finally:
            self._waiting_calls[generation_id] -= 1
            if not self._waiting_calls[generation_id]:
                del self._waiting_calls[generation_id]
                if left and not self.draining:
                    await self._cancel_for_caller(generation_id, caller)

    async def _cancel_for_caller(self, generation_id: str, caller: str) -> None:
        """Cancel on behalf of a caller who is gone, even if this very task is cancelled again meanwhile."""
        task = asyncio.create_task(self._cancel(generation_id, caller))
        self._cancellations.add(task)
        task.add_done_callback(self._cancellations.discard)
        with suppress(NotFoundError):  # never accepted, or forgotten by now
            await asyncio.shield(task)

    async def _cancel(self, generation_id: str, caller: str) -> CancelResult:
        """Cancel, and count what no worker will ever see; other ends are counted by their workers."""
        found = await self.store.cancel(caller, generation_id)
        if found is CancelResult.NEVER_STARTED:
            generation = await self.store.get(caller, generation_id)
            GENERATIONS.labels(generation.engine, "cancelled").inc()
        return found


def _compute_digest(request: GenerateRequest) -> bytes:
    """Equal for requests that make the same: how to deliver it is left out."""
    task = GenerateRequest()
    task.CopyFrom(request)
    for delivery in ("request_id", "response_mode", "inline_outputs"):
        task.ClearField(delivery)
    return hashlib.sha256(task.SerializeToString(deterministic=True)).digest()


def _tighten(seconds_left: float | None, request: GenerateRequest) -> float | None:
    if not request.HasField("timeout"):
        return seconds_left
    timeout = request.timeout.ToMicroseconds() / 1e6
    return timeout if seconds_left is None else min(timeout, seconds_left)


def _build_submission(
    generation_id: str, request: GenerateRequest, caller: str, route: Route, digest: bytes
) -> Submission:
    generation = Generation(id=generation_id, state=State.STATE_QUEUED, engine=route.engine.name)
    generation.request_id = request.request_id or generation.id
    generation.create_time.GetCurrentTime()
    generation.receipt.parameters.extend(route.resolved.parameters)
    generation.receipt.reproducibility = receipt.REPRODUCIBILITIES[
        route.engine.capabilities.reproducibility
    ]
    if request.WhichOneof("task") == "image":
        generation.image.CopyFrom(request.image)
    else:
        generation.audio.CopyFrom(request.audio)
    return Submission(
        generation=generation,
        request=request,
        task=b"",
        caller=caller,
        digest=digest,
        queue_limit=route.engine.settings.queue_limit,
        deadline=time.time() + request.timeout.ToMicroseconds() / 1e6
        if request.HasField("timeout")
        else None,
        inputs=list_artifact_ids(request),
    )
