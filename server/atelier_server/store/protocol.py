"""What a store does. Every implementation passes the suite in tests/store/conformance.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.generation_pb2 import CancelCause, CancelOutcome, Generation, State
from atelier.v1.generation_service_pb2 import GenerateRequest, StreamProgressResponse
from atelier_server.store.artifact_protocol import ArtifactRecords
from atelier_server.store.attendance_protocol import Attendance
from atelier_server.store.queue_protocol import QueueStore
from atelier_server.store.quotas import Allowance, Share, Usage

Event = StreamProgressResponse
"""One numbered entry of a generation's log."""

ENDED = frozenset({State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELLED})
"""The states that a generation does not leave by itself."""


class ClaimLostError(Exception):
    """The claim is void: the generation was cancelled, released or claimed again. No caller ever sees this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What accompanies a generation from the call that submitted it to the worker that executes it."""

    tenant: str = ""
    """The tenant of the call; empty for those of older versions."""
    subject: str = ""
    """Who of the tenant made the call; empty when it is not known."""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """The W3C trace context of the call, as header name to value; empty when it is not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A generation to accept."""

    generation: Generation
    """In the state QUEUED, with its id, request id, engine, task and the parameters of its receipt."""
    request: GenerateRequest
    """The request as it came, with artifact ids in place of attached images."""
    task: bytes
    """The decided task, which the worker executes; opaque to the store."""
    caller: str
    """The caller that owns it; no other caller can see it."""
    digest: bytes
    """Digest of the request: a request id may be used again only with the same digest."""
    queue_limit: int
    """Maximum number of generations that may wait for the engine; a caller who has none there may add one."""
    share: Share = field(default_factory=Share)
    """Decides when it is claimed, beside those of other callers."""
    allowance: Allowance | None = None
    """How much the caller may have; None for no limits."""
    deadline: float | None
    """Steady time after which it fails instead of running on; None for no limit."""
    inputs: Sequence[str] = ()
    """Artifacts that it needs; they are kept as long as it is."""
    metadata: Metadata = field(default_factory=Metadata)
    """Returned with every claim."""
    named: bool = True
    """Whether its request id may have been used before: one that was drawn for this submission was not."""
    keep_remote_handle: bool = False
    """Whether a generation that runs again continues with the remote job of its last attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult:
    """Answer to a submission."""

    generation: Generation
    """The accepted generation, or the one that the same request id named before."""
    created: bool
    """True when it was accepted, or accepted again, by this submission."""
    ends_with_callers: bool
    """Whether it is cancelled when its callers are lost: not if it was accepted with the mode ON_ACCEPTANCE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The exclusive right to work on a generation, until it ends or the claim is lost."""

    generation: Generation
    """The record, in the state RUNNING."""
    request: GenerateRequest
    """The request as it came."""
    task: bytes
    """The decided task. Empty for a generation that an older version accepted: decide it, then call `save_task`."""
    attempt: int
    """Number of this attempt, from 1."""
    fence: int
    """Greater than that of every earlier claim of the same generation; writes under an older one are refused."""
    caller: str
    """The caller that owns the generation."""
    remote_handle: str
    """Identifies the job that an earlier attempt started at a remote service; empty when there is none."""
    deadline: float | None
    """Steady time after which the work is to be stopped; None for no limit."""
    metadata: Metadata
    """As submitted."""


def may_run_again(generation: Generation) -> bool:
    """Whether the same request runs the generation again: nobody has cancelled it on purpose."""
    return (
        generation.state == State.STATE_CANCELLED
        and generation.cancel_cause == CancelCause.CANCEL_CAUSE_CALLERS_LOST
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A generation that waits for its engine."""

    generation: Generation
    """The record, in the state QUEUED."""
    request: GenerateRequest
    """The request as it came."""
    caller: str
    """The caller that owns it."""


class CancelResult(Enum):
    """What a cancellation found."""

    NEVER_STARTED = "never_started"
    """The generation was waiting and has ended now."""
    REQUESTED = "requested"
    """The generation is running; its worker is notified and will end it."""
    TOO_LATE = "too_late"
    """The generation had ended before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which generations to list, newest first."""

    caller: str
    """The caller whose generations to list."""
    limit: int
    """Maximum number of generations in the answer."""
    max_bytes: int = 2**31 - 1
    """Maximum size of the answer's generations as messages; a single one may be greater."""
    before: str = ""
    """Only ids less than this; empty for all."""
    engine: str = ""
    """Only those of this engine; empty for all."""
    states: Sequence[State.ValueType] = ()
    """Only those in one of these states; empty for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Generations that a query matches, newest first."""

    generations: Sequence[Generation]
    """As they are stored, but without the parameters and the recipe of their receipts."""
    complete: bool
    """Whether nothing that matches is older."""


class Store(QueueStore, ArtifactRecords, Attendance, Protocol):
    """Keeps generations durably: what it has accepted survives the death of the process."""

    async def find_by_request_id(
        self, caller: str, request_id: str, digest: bytes
    ) -> SubmitResult | None:
        """The generation that this request made before, if any, with `created` False.

        Raises:
            ConflictError: the request id was used before with another digest.
        """

    async def find_unnamed(
        self, caller: str, digest: bytes, ended_after: float
    ) -> Sequence[SubmitResult]:
        """Generations that this request made without a request id, newest first, at most 64.

        Those that wait, run, or ended after that Unix time.
        """

    async def submit(self, submission: Submission) -> SubmitResult:
        """Accept a generation; it is durable when this returns. Cancelled, it raises that once it is known.

        If the request id names one that `may_run_again`, that one is queued again, with the task of this submission.

        Raises:
            ConflictError: the request id was used before with another digest.
            QueueFullError: the engine's queue is full.
            TenantQuotaError: the caller has as much as it may.
        """

    async def find_usage(self, caller: str, allowance: Allowance) -> Usage:
        """What the caller has now, as far as the allowance limits it."""

    async def claim(self, engine: str) -> Claim:
        """Wait for a generation in the engine's queue, and claim it.

        Of callers with work in the queue, that one is next which was given the fewest cost units for its weight; of
        its generations the oldest. Who comes to a queue is given no more than those that had work there before.
        """

    async def claim_begun(self, engine: str) -> Claim | None:
        """Claim the oldest in the engine's queue that has a remote job; None if there is none, or not yet."""

    def take_cancelled_jobs(self, engine: str) -> Sequence[Claim]:
        """Void claims on what was cancelled while an earlier process ran it: its remote job may go on. Each once."""

    async def record_job_cancelled(self, claim: Claim, left: str = "") -> None:
        """Record that the remote job of a void claim is cancelled: another attempt resumes what is `left`, if anything.

        Until then another attempt continues with that job. Without effect if there was another attempt.
        """

    async def save_task(self, claim: Claim, generation: Generation, task: bytes) -> None:
        """Store the task decided for a claim without one, with the record whose receipt describes it.

        Raises:
            ClaimLostError: the claim is void.
        """

    async def log(self, claim: Claim, events: Sequence[Event]) -> None:
        """Append events; their sequences, id, state, time, engine and attempt are filled in here.

        Raises:
            ClaimLostError: the claim is void; stop working.
        """

    def is_watched(self, generation_id: str) -> bool:
        """Whether anybody may be waiting for the generation's next event, so that it is not to be kept back."""

    async def save_remote_handle(self, claim: Claim, handle: str) -> None:
        """Store durably what identifies the job that a remote service has accepted.

        Raises:
            ClaimLostError: the claim is void.
        """

    async def finish(
        self,
        claim: Claim,
        generation: Generation,
        progress: Event,
        *,
        unlogged: Sequence[Event] = (),
        before: Callable[[Generation], None] | None = None,
    ) -> Generation:
        """End the generation in the state that `generation` has, and publish its artifacts; returns the record.

        `progress` says how far the work came; the last event of the log is made of it. Events that are `unlogged` are
        logged before it. `before` completes the generation in the thread that writes it, just before that; what it
        raises is raised, and nothing was written then.

        Raises:
            ClaimLostError: the claim is void; the outputs are to be deleted.
        """

    async def release(
        self,
        claim: Claim,
        *,
        started: Timestamp | None = None,
        keep_remote_handle: bool = False,
        cancel_outcome: CancelOutcome.ValueType = CancelOutcome.CANCEL_OUTCOME_STOPPED,
    ) -> None:
        """Return the generation to its place in its queue, at the head. Does nothing if the claim is void.

        The attempt, which began at `started`, is listed in the receipt; the next one has the next number.
        `keep_remote_handle` when the remote job continues meanwhile. If a cancellation was requested, the generation
        ends instead, with `cancel_outcome`.
        """

    async def requeue_on_engine(
        self, claim: Claim, generation: Generation, task: bytes, *, spent: float = 0.0
    ) -> None:
        """Move the generation to the queue of the engine it names now; the attempt has ended.

        Written together: the record, the task decided anew for that engine, and what was `spent` on the old one.

        Raises:
            ClaimLostError: the claim is void.
        """

    async def list_waiting(self, engine: str, after: str, limit: int) -> Sequence[Waiting]:
        """The oldest generations in the engine's queue, with ids over `after`; not those that have a remote job."""

    async def move(self, before: Generation, moved: Generation, task: bytes) -> bool:
        """Move a generation that waits to the queue of the engine that `moved` names, with the task for that engine.

        False, and nothing happens, if it does not wait for the engine of `before` any more.

        Raises:
            NotFoundError: it was deleted.
        """

    def wait_cancelled(self, claim: Claim) -> asyncio.Future[None]:
        """A future that is done once the cancellation of the generation is requested; it may be dropped at any time."""

    async def cancel(
        self,
        caller: str,
        generation_id: str,
        cause: CancelCause.ValueType = CancelCause.CANCEL_CAUSE_REQUESTED,
    ) -> CancelResult:
        """End a waiting generation, or notify the worker of a running one.

        REQUESTED replaces the cause CALLERS_LOST of a generation that is being cancelled or is cancelled already.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """

    def watch(
        self, generation_id: str, after: int, *, max_silence_seconds: float | None = None
    ) -> AsyncGenerator[Event]:
        """Every event with a greater sequence, as it happens, up to the last; each exactly once and in order.

        After each `max_silence_seconds` without an event, also a repetition of the last event of the log; never
        when that is None.

        Raises:
            NotFoundError: no such generation; also when it expires meanwhile.
        """

    async def wait_dispatched(self, caller: str, generation_id: str) -> None:
        """Wait until the generation is in no queue.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """

    async def wait_ended(self, caller: str, generation_id: str) -> Generation:
        """Wait for the generation's end; returns its record, which others may share: it is not to be modified.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """

    async def get(self, caller: str, generation_id: str) -> Generation:
        """The generation's current record.

        Raises:
            NotFoundError: no such generation, or it is another caller's.
        """

    async def find_subjects(self, generation_ids: Sequence[str]) -> Mapping[str, str]:
        """Who of its caller asked for each of the generations; without those of which that is not known."""

    async def list(self, query: Query) -> Page:
        """The newest generations that match, as many as the query's limits permit."""

    async def queue_depth(self, engine: str, caller: str = "", *, batch: bool = False) -> int:
        """How many wait for the engine; none count for a caller with none there, or none but BATCH if not `batch`."""

    async def list_queued_engines(self) -> Sequence[str]:
        """The engines that generations wait for, whether they still exist or not."""

    def observe(self, observer: Callable[[Event], None], *, everywhere: bool = False) -> None:
        """Call the observer with every event but those of progress; first with those that ended at the start.

        Those of this process; with `everywhere` also those of others, with only id, number, state and engine. A
        generation ends when the store is opened if it has crashed the server too often, or was to be cancelled.
        """

    async def list_waiting_tasks(self) -> Sequence[tuple[str, str, str, bool, bytes]]:
        """Id, engine, caller, `is_batch` and decided task of each that waits; the task is empty as in `Claim.task`."""

    async def list_succeeded_tasks(self, limit: int) -> Sequence[tuple[Generation, bytes]]:
        """Record and decided task of those of the newest `limit` generations that have succeeded, oldest first."""

    async def spent_today(self, engine: str) -> float:
        """Cost, by their receipts, of the engine's generations that ended since midnight UTC."""

    async def is_empty(self) -> bool:
        """Whether there is no record at all: neither of a generation nor of an artifact."""

    async def test_write(self) -> None:
        """Write something that changes nothing.

        Raises:
            StorageError: it cannot be written, as any write may end; this passes.
        """

    def sweep(self, now: float) -> AsyncGenerator[Sequence[str]]:
        """Fail what waited past its deadline, delete what has expired; yields the ids of deleted artifacts.

        It works in small steps, between which other calls take their turns, and yields after each, also nothing.
        `now` is a steady time. What is kept for some seconds expires by that clock, whatever its timestamps say.
        """

    async def close(self) -> None:
        """Close the database; running claims stay claimed, and the next start requeues them."""
