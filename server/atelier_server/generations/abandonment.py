"""Cancels generations whose calls are lost, unless another call wants them, at this server or at another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from atelier.v1.generation_pb2 import State
from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.errors import NotFoundError, ServiceError
from atelier_server.generations.callers import Callers
from atelier_server.store.generation_meter import GenerationMeter
from atelier_server.store.protocol import Store, Submission, SubmitResult


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Abandonment:
    """Counts the calls at this server, tells other servers of them, and acts when the last one is lost."""

    store: Store
    storage: StorageMonitor
    callers: Callers
    meter: GenerationMeter
    grace_seconds: float
    """For which a generation that waits is kept when its calls are lost."""
    is_draining: Callable[[], bool]
    """Whether the server is shutting down: its calls are lost then, and come again elsewhere."""
    _recorded: set[str] = field(default_factory=set)
    """Of which other servers have been told that calls of this one want them."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _decisions: dict[str, asyncio.Event] = field(default_factory=dict)
    """Set once it is known whether a call at another server wants the generation."""

    async def join(self, submitted: SubmitResult, *, again: bool) -> bool:
        """Tell other servers of a call that found what it wanted to submit, or has it run `again`.

        False if it comes too late: the generation has ended, or is being cancelled because nobody wanted it.
        """
        generation_id = submitted.generation.id
        if not (self.store.is_shared and submitted.ends_with_callers):
            return True
        self._recorded.add(generation_id)
        try:
            return await self.store.attend(generation_id, started=True, again=again)
        except asyncio.CancelledError:  # it may be told all the same
            if not self.callers.is_attended(generation_id):
                self._start(self._leave(generation_id, None, timed_out=False))
            raise

    async def is_stopping(self, generation_id: str) -> bool:
        """Whether the generation is or was cancelled because nobody wants it, once that is decided.

        Where other servers may have accepted it again, only `join` knows.
        """
        if (decision := self._decisions.get(generation_id)) is not None:
            await decision.wait()
        return not self.store.is_shared and self.callers.is_stopping(generation_id)

    @asynccontextmanager
    async def attend(
        self,
        generation_id: str,
        caller: str,
        has_timed_out: Callable[[], bool],
        *,
        started: bool,
        follows: bool = False,
    ) -> AsyncGenerator[None]:
        """Count a call until the generation has ended; abandon the generation if its last call ends first.

        `follows` when the call has not submitted it.
        """
        ended = False
        try:
            with self.callers.attend(generation_id, started=started):
                if follows and self.store.is_shared:
                    self._recorded.add(generation_id)
                    await self.store.attend(generation_id, started=False)
                yield
                ended = True
        finally:
            if ended:
                self.callers.record_answer(generation_id)
            is_last = generation_id in self._recorded and not self.callers.is_attended(
                generation_id
            )
            if not ended and self.callers.is_abandoned(generation_id, started=started):
                self._start(self._cancel(generation_id, caller, timed_out=has_timed_out()))
            elif is_last:
                lost_by = None if ended else caller
                self._start(self._leave(generation_id, lost_by, timed_out=has_timed_out()))

    def abandon_submitted(self, submission: Submission) -> None:
        """Abandon in the background what a lost call has submitted; it may have been accepted."""
        self._start(self._abandon_submitted(submission))

    def _start(self, cancellation: Coroutine[None, None, None]) -> None:
        """Cancel for callers that have disconnected, in the background."""
        task = asyncio.create_task(cancellation)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _abandon_submitted(self, submission: Submission) -> None:
        """Abandon it, unless it was never accepted or ends without its callers."""
        caller, request_id = submission.caller, submission.generation.request_id
        with suppress(ServiceError):  # it was rejected
            found = await self.store.find_by_request_id(caller, request_id, submission.digest)
            if found is None or not found.ends_with_callers:
                return
            if self.callers.is_abandoned(found.generation.id, started=True):
                await self._cancel(found.generation.id, caller, timed_out=False)

    async def _leave(self, generation_id: str, caller: str | None, *, timed_out: bool) -> None:
        """Say that no call is left; if the last call was lost, `caller` is whose, and other servers counted on it."""
        self._recorded.discard(generation_id)
        decides = await self.storage.retry(lambda: self.store.leave(generation_id))
        if decides and caller is not None and not self.callers.is_attended(generation_id):
            await self._cancel(generation_id, caller, timed_out=timed_out)

    async def _cancel(self, generation_id: str, caller: str, *, timed_out: bool) -> None:
        """Cancel a running generation now, and a waiting one after the grace period; neither in a drain."""
        with suppress(NotFoundError):  # never accepted, or deleted meanwhile
            generation = await self.store.get(caller, generation_id)
            waits = generation.state == State.STATE_QUEUED
            if waits:
                unwanted = await self.callers.wait_unwanted(
                    generation_id,
                    self.store.wait_dispatched(caller, generation_id),
                    self.grace_seconds,
                )
            else:
                unwanted = self.callers.is_abandoned(generation_id, started=True)
            if unwanted and not self.is_draining():
                await self._cancel_unwanted(
                    generation_id, caller, any_call=waits, timed_out=timed_out
                )

    async def _cancel_unwanted(
        self, generation_id: str, caller: str, *, any_call: bool, timed_out: bool
    ) -> None:
        """Cancel it, unless a call at another server wants it."""
        followed = self.callers.is_attended(generation_id)
        if not followed:
            self._recorded.discard(generation_id)
        decision = self._decisions[generation_id] = asyncio.Event()
        try:
            with self.callers.stopping(generation_id):
                if timed_out:
                    self.meter.time_out(generation_id)
                is_cancelled = await self.storage.retry(
                    lambda: self.store.cancel_abandoned(
                        caller, generation_id, any_call=any_call, still_followed=followed
                    )
                )
                if not is_cancelled:
                    self.callers.record_start(generation_id)  # it goes on, and calls may come
                    return
                self._decide(generation_id, decision)
                await self.store.wait_ended(caller, generation_id)
                self.meter.forget(generation_id)
            self.callers.forget(generation_id)
        finally:
            self._decide(generation_id, decision)

    def _decide(self, generation_id: str, decision: asyncio.Event) -> None:
        decision.set()
        if self._decisions.get(generation_id) is decision:
            del self._decisions[generation_id]
