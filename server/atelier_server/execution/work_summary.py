"""What the log and the metrics say of a generation: whose it is, its work, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from atelier_engines.event import Step
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_server.metrics import BATCH_SIZE, MEMORY_BYTES, OUTPUTS, STEPS, counter, histogram
from atelier_server.store.protocol import Claim
from atelier_server.tracing.trace_context import find_trace


def describe_claim(claim: Claim) -> Mapping[str, object]:
    """What every line of the log says of the attempt."""
    return {
        "generation": claim.generation.id,
        "request_id": claim.generation.request_id,
        "tenant": claim.metadata.tenant,
        "engine": claim.generation.engine,
        "attempt": claim.attempt,
        "trace": find_trace(claim.metadata.trace_context, claim.generation.id).text,
    }


def describe_end(
    task: Task | None, outcome: str, *, seconds: float, memory_bytes: int
) -> dict[str, object]:
    """The fields of the line that says how a generation ended; what is not known is left out.

    Args:
        task: what the engine was given; None if it was given nothing.
        outcome: succeeded, failed or cancelled.
        seconds: of the last attempt.
        memory_bytes: what an image took beside the model's weights; 0 where not known.
    """
    fields: dict[str, object] = {"outcome": outcome, "seconds": round(seconds, 3)}
    if task is not None:
        fields |= _describe_task(task)
    return {**fields, "memory_bytes": memory_bytes} if memory_bytes else fields


def count_step(engine: str, step: Step) -> None:
    """Count in the metrics how many requests have shared the run that made the step."""
    if step.batch:
        histogram(BATCH_SIZE, engine).observe(step.batch)


def count_work(
    engine: str, task: Task | None, *, steps: int, outputs: int, memory_bytes: int
) -> None:
    """Count in the metrics what a generation that succeeded has made."""
    model = "" if task is None else task.model
    counter(OUTPUTS, engine, model).inc(outputs)
    counter(STEPS, engine, model).inc(steps)
    if memory_bytes:
        histogram(MEMORY_BYTES, engine).observe(memory_bytes)


def _describe_task(task: Task) -> dict[str, object]:
    known: dict[str, object] = {
        name: value for name in ("model", "steps") if (value := getattr(task, name))
    }
    match task:
        case ImageTask():
            width, height = task.output_size
            return {**known, "width": width, "height": height, "images": len(task.seeds)}
        case AudioTask():
            return {**known, "audio_seconds": task.duration_seconds}
        case _:
            assert_never(task)
