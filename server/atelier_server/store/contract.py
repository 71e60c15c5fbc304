"""What a store does. Every store passes the suite in tests/store/contract.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2 import GenerateRequest, StreamProgressResponse

Event = StreamProgressResponse
"""One numbered entry of a generation's log."""

ENDED = frozenset({State.STATE_SUCCEEDED, State.STATE_FAILED, State.STATE_CANCELLED})
"""The states that a generation never leaves."""


class StoreError(Exception):
    """Base of what a store raises."""


class UnknownRecordError(StoreError):
    """No such generation or artifact, or it is another caller's."""


class RequestConflictError(StoreError):
    """The request id was used before, for something else."""


class QueueFullError(StoreError):
    """As many generations wait for that pool as may."""


class ClaimLostError(StoreError):
    """The claim is void: the generation was cancelled, given back or taken over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A generation to accept."""

    generation: Generation
    """In the state QUEUED, with its id, request id, engine and task."""
    request: GenerateRequest
    """What to run; its pictures are artifacts by now."""
    caller: str
    """Whose it is; others can't see it."""
    digest: bytes
    """Same digest under the same request id: the same request."""
    queue_limit: int
    """Most generations that may wait for the pool."""
    deadline: float | None
    """Unix time after which it fails instead of running on."""
    inputs: Sequence[str] = ()
    """Artifacts that it needs; they are kept as long as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Answer to a submission."""

    generation: Generation
    """The accepted generation, or the one that the same request id named before."""
    created: bool
    """False when it was there before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on a generation, until it ends or the claim is lost."""

    generation: Generation
    """In the state RUNNING."""
    request: GenerateRequest
    """What to run."""
    attempt: int
    """Counts from 1."""
    fence: int
    """Greater than that of every earlier claim of the same generation; writes under an older one are refused."""
    caller: str
    """Whose it is."""
    handle: str
    """Finds work that an earlier attempt had a remote service take; empty when there is none."""
    deadline: float | None
    """Unix time after which the work is to be given up."""


class Cancelling(Enum):
    """What a cancellation found."""

    NEVER_STARTED = "never_started"
    """It was waiting and has ended now."""
    REQUESTED = "requested"
    """It is running; its worker is told and will end it."""
    TOO_LATE = "too_late"
    """It had ended before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which generations to list, newest first."""

    caller: str
    """Whose."""
    limit: int
    """Most in the answer."""
    before: str = ""
    """Only ids less than this; empty for all."""
    engine: str = ""
    """Only those of this engine; empty for all."""
    states: Sequence[State.ValueType] = ()
    """Only those in one of these states; empty for all."""


class Store(Protocol):
    """Keeps generations through crashes; what it accepted is never lost."""

    async def recall(self, caller: str, request_id: str, digest: bytes) -> Generation | None:
        """The generation that this request made before, if any.

        Raises:
            RequestConflictError: the request id was used before with another digest.
        """

    async def submit(self, submission: Submission) -> Accepted:
        """Accept a generation; it is durable when this returns.

        Raises:
            RequestConflictError: the request id was used before with another digest.
            QueueFullError: the pool's queue is full.
        """

    async def claim(self, pool: str) -> Claim:
        """Wait for the oldest generation that waits for the pool, and take it."""

    async def log(self, claim: Claim, event: Event) -> None:
        """Append an event; its sequence, id, state, time, engine and attempt are filled in here.

        Raises:
            ClaimLostError: the claim is void; stop working.
        """

    async def dispatched(self, claim: Claim, handle: str) -> None:
        """Remember, durably, what finds the work that a remote service has taken.

        Raises:
            ClaimLostError: the claim is void.
        """

    async def finish(self, claim: Claim, generation: Generation) -> None:
        """End the generation in the state that `generation` has, and publish its artifacts.

        Raises:
            ClaimLostError: the claim is void; what was made is to be thrown away.
        """

    async def release(self, claim: Claim, *, keep_handle: bool = False) -> None:
        """Give the generation back to the head of its queue, as if never claimed. Void claims are left alone.

        `keep_handle` when the remote work goes on meanwhile.
        """

    async def hand_over(self, claim: Claim, generation: Generation) -> None:
        """Put the generation, as given, into the queue of the engine it names now; it counts as the same attempt's end.

        Raises:
            ClaimLostError: the claim is void.
        """

    async def cancelled(self, claim: Claim) -> None:
        """Return when somebody asks for the generation to be cancelled."""

    async def cancel(self, caller: str, generation_id: str) -> Cancelling:
        """End a waiting generation, or tell the worker of a running one.

        Raises:
            UnknownRecordError: see there.
        """

    def watch(self, generation_id: str, after: int) -> AsyncGenerator[Event]:
        """Every event with a greater sequence, as it happens, up to the last; each exactly once and in order.

        Raises:
            UnknownRecordError: see there; also when its time to live ends meanwhile.
        """

    async def ended(self, caller: str, generation_id: str) -> Generation:
        """Wait for the generation's end.

        Raises:
            UnknownRecordError: see there.
        """

    async def get(self, caller: str, generation_id: str) -> Generation:
        """The generation as it stands.

        Raises:
            UnknownRecordError: see there.
        """

    async def list(self, query: Query) -> Sequence[Generation]:
        """Generations by id, newest first."""

    async def queued(self, pool: str) -> int:
        """How many generations wait for the pool."""

    async def spent_today(self, engine: str) -> float:
        """Money that the receipts of generations which ended since midnight UTC say the engine cost."""

    async def add_artifact(self, caller: str, artifact: Artifact) -> None:
        """Make a stored blob known."""

    async def artifact(self, caller: str, artifact_id: str) -> Artifact:
        """What is known of a blob.

        Raises:
            UnknownRecordError: see there.
        """

    async def unknown_artifacts(self, artifact_ids: Sequence[str]) -> Sequence[str]:
        """Those of the ids that no artifact has: blobs of attempts that never ended."""

    async def sweep(self, now: float) -> Sequence[str]:
        """End what waited past its deadline, forget what outlived its time; returns ids of forgotten artifacts."""

    async def close(self) -> None:
        """Let go of everything; running claims stay claimed, and are taken up again by the next start."""
