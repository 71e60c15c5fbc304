"""The numbers of a generation: events, attempts, progress, times, sizes, digests; each check says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from atelier.v1.generation_pb2 import AttemptOutcome, Generation, State
from tests.siege.plan import SIDE, Kind, Planned
from tests.siege.recorder import ENDED, SeenEvent, Stream
from tests.siege.stored import StoredGeneration

_SUCCEEDED = AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED


def check_numbers(planned: Planned, stored: StoredGeneration) -> Iterator[str]:
    """What is wrong in the record, the events and the outputs of a generation."""
    generation = stored.generation
    if generation.state not in {
        State.STATE_SUCCEEDED,
        State.STATE_FAILED,
        State.STATE_CANCELLED,
    }:
        return
    if planned.kind is not Kind.RETRIED and generation.request_id != planned.request_id:
        yield f"request id {generation.request_id!r}"
    yield from _check_log(generation, stored.log)
    yield from _check_progress(stored.log)
    yield from _check_attempts(generation)
    yield from _check_times(generation)
    yield from _check_outputs(planned, stored)


def check_stream(planned: Planned, stream: Stream, log: Sequence[SeenEvent]) -> Iterator[str]:
    """What is wrong in what one stream delivered."""
    seen = [event.sequence for event in stream.events]
    if seen != list(range(stream.after + 1, stream.after + 1 + len(seen))):
        yield f"a stream after event {stream.after} delivered the events {_shorten(seen)}"
    if not log:
        return  # its generation has not ended, which is reported
    stored = {event.sequence: event for event in log}
    for event in stream.events:
        logged = stored.get(event.sequence)
        if logged != event and not _was_run_again(planned, event, logged):
            yield f"a stream delivered {event}, and the log has {logged}"
            break
    ended = stream.events[-1].state in ENDED if stream.events else stream.after >= log[-1].sequence
    if stream.completed and not ended:
        yield f"a stream was completed after event {max([stream.after, *seen])} of {len(log)}"


def _was_run_again(planned: Planned, event: SeenEvent, logged: SeenEvent | None) -> bool:
    """Whether the event was the last until callers who had hung up called again: then QUEUED replaces it."""
    return (
        planned.kind in {Kind.HANG_UP, Kind.ABANDON}
        and event.state == "CANCELLED"
        and logged is not None
        and logged.state == "QUEUED"
    )


def _check_log(generation: Generation, log: Sequence[SeenEvent]) -> Iterator[str]:
    numbers = [event.sequence for event in log]
    if numbers != list(range(1, len(log) + 1)) or not log:
        yield f"the log has the events {_shorten(numbers)}"
        return
    state = State.Name(generation.state).removeprefix("STATE_")
    if log[-1].state != state:
        yield f"the last event says {log[-1].state}, and the record {state}"
    for event in log[:-1]:
        if event.state in ENDED:
            yield f"event {event.sequence} of {len(log)} says {event.state}"


def _check_progress(log: Sequence[SeenEvent]) -> Iterator[str]:
    """Progress never decreases within an attempt, and is a fraction."""
    for before, event in pairwise([event for event in log if event.state == "RUNNING"]):
        if event.attempt == before.attempt and event.progress < before.progress:
            yield (
                f"progress goes from {before.progress} (event {before.sequence}) to {event.progress} "
                f"(event {event.sequence}) in attempt {event.attempt}"
            )
        if event.attempt < before.attempt:
            yield f"attempt {event.attempt} follows attempt {before.attempt}"
    if any(not 0 <= event.progress <= 1 for event in log):
        yield "progress is not a fraction"


def _check_attempts(generation: Generation) -> Iterator[str]:
    attempts = generation.receipt.attempts
    numbers = [attempt.number for attempt in attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the receipt has the attempts {numbers}"
    succeeded = [attempt.number for attempt in attempts if attempt.outcome == _SUCCEEDED]
    wanted = [len(numbers)] if generation.state == State.STATE_SUCCEEDED else []
    if succeeded != wanted:
        yield f"of {len(numbers)} attempts, {succeeded} succeeded"


def _check_times(generation: Generation) -> Iterator[str]:
    accepted = generation.create_time.ToMicroseconds()
    started = generation.start_time.ToMicroseconds() or accepted
    ended = generation.end_time.ToMicroseconds()
    if not accepted <= started <= ended:
        yield f"accepted at {accepted}, started at {started}, ended at {ended} microseconds"


def _check_outputs(planned: Planned, stored: StoredGeneration) -> Iterator[str]:
    outputs = stored.generation.outputs
    wanted = planned.images if stored.generation.state == State.STATE_SUCCEEDED else 0
    if len(outputs) != wanted:
        yield f"{len(outputs)} outputs, not {wanted}"
        return
    for output, digest, size in zip(
        outputs, stored.output_digests, stored.output_sizes, strict=True
    ):
        if (output.artifact.sha256, output.artifact.size) != (digest, size):
            yield f"output {output.artifact.id} is not what its record says"
        pixels = output.artifact.image_size
        if (pixels.width, pixels.height) != (SIDE, SIDE):
            yield f"output {output.artifact.id} has {pixels.width} × {pixels.height} pixels"
    seeds = [output.seed for output in outputs]
    if seeds and (
        seeds[0] != planned.seed or seeds != list(stored.generation.receipt.recipe.seeds)
    ):
        yield f"seeds {seeds}, where {planned.seed} was asked for"


def _shorten(numbers: Sequence[int]) -> str:
    """The numbers, in short where there are many."""
    if len(numbers) <= 12:
        return str(list(numbers))
    return f"{list(numbers[:6])} … {list(numbers[-6:])}"
