"""What execution adds to a generation's receipt: the recipe and the attempts."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.generation_pb2 import Attempt, AttemptOutcome, Failure, Generation, Recipe
from atelier_engines.capabilities import Capabilities
from atelier_engines.task import ImageTask, Task
from atelier_server.engines.status import EngineStatus


def build_recipe(engine: EngineStatus, task: Task) -> Recipe:
    """What is needed to repeat the task on the engine."""
    capabilities = engine.capabilities
    return Recipe(
        engine_type=engine.type,
        model=task.model,
        weights_digest=_find_digest(capabilities, task),
        seeds=task.seeds if isinstance(task, ImageTask) else [task.seed],
        versions=capabilities.versions,
    )


def add_attempt(
    generation: Generation,
    number: int,
    start: Timestamp,
    outcome: AttemptOutcome.ValueType,
    failure: Failure | None = None,
) -> None:
    """Add an attempt that began at `start` and ends now to the receipt."""
    attempt = Attempt(
        number=number, engine=generation.engine, start_time=start, outcome=outcome, failure=failure
    )
    attempt.end_time.GetCurrentTime()
    generation.receipt.attempts.append(attempt)


def _find_digest(capabilities: Capabilities, task: Task) -> str:
    side = capabilities.image if isinstance(task, ImageTask) else capabilities.audio
    models = side.models if side is not None else ()
    return next((model.digest for model in models if model.name == task.model), "")
