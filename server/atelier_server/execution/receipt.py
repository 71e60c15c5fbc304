"""What a generation's receipt says beyond its parameters."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1 import engine_pb2
from atelier.v1.generation_pb2 import Attempt, AttemptOutcome, Cost, Failure, Generation, Recipe
from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.task import ImageTask, Task
from atelier_server.admission.router import estimate_price
from atelier_server.engines.supervisor import EngineSupervisor

REPRODUCIBILITIES = {
    Reproducibility.BIT_EXACT: engine_pb2.REPRODUCIBILITY_BIT_EXACT,
    Reproducibility.SAME_ENGINE: engine_pb2.REPRODUCIBILITY_SAME_ENGINE,
    Reproducibility.BEST_EFFORT: engine_pb2.REPRODUCIBILITY_BEST_EFFORT,
}


def estimate_cost(pool: EngineSupervisor, task: Task) -> Cost | None:
    """What the task costs on that engine; None when it is free."""
    price = pool.capabilities.price
    return (
        None
        if price is None
        else Cost(currency=price.currency, amount=estimate_price(price, task, pool))
    )


def build_recipe(pool: EngineSupervisor, task: Task) -> Recipe:
    """What is needed to repeat the task on that engine."""
    can = pool.capabilities
    return Recipe(
        engine_type=pool.settings.type,
        model=task.model,
        weights_digest=_find_digest(can, task),
        seeds=task.seeds if isinstance(task, ImageTask) else [task.seed],
        versions=can.versions,
    )


def add_attempt(
    generation: Generation,
    number: int,
    start: Timestamp,
    outcome: AttemptOutcome.ValueType,
    failure: Failure | None = None,
) -> None:
    """Write down how an attempt ended that began at `start` and ends now."""
    attempt = Attempt(
        number=number, engine=generation.engine, start_time=start, outcome=outcome, failure=failure
    )
    attempt.end_time.GetCurrentTime()
    generation.receipt.attempts.append(attempt)


def _find_digest(can: Capabilities, task: Task) -> str:
    side = can.image if isinstance(task, ImageTask) else can.audio
    models = side.models if side is not None else ()
    return next((model.digest for model in models if model.name == task.model), "")
