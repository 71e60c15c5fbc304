"""What a task costs on an engine, by the price that the engine states."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Cost
from atelier_engines.capabilities import PriceUnit
from atelier_engines.task import ImageTask, Task
from atelier_server.engines.status import EngineStatus


def estimate_price(
    engine: EngineStatus, task: Task, seconds: float | None, *, outputs: int | None = None
) -> float | None:
    """Cost of the task if it takes so long, in the currency of the engine's price; 0 when the engine is free.

    `outputs` is how many were made; None for all of them. None for a price by the second while `seconds` is None,
    which stands for an unknown time.
    """
    price = engine.capabilities.price
    if price is None:
        return 0.0
    made = _count_outputs(task) if outputs is None else outputs
    match price.unit:
        case PriceUnit.IMAGE:
            return price.amount * made
        case PriceUnit.MEGAPIXEL:
            pixels = task.width * task.height if isinstance(task, ImageTask) else 0
            return price.amount * made * pixels / 1e6
        case PriceUnit.SECOND:
            return None if seconds is None else price.amount * seconds


def estimate_cost(
    engine: EngineStatus, task: Task, seconds: float | None, *, outputs: int | None = None
) -> Cost | None:
    """Cost of the task, or of so many of its outputs, if it takes so long.

    None when the engine is free, and while the cost is unknown.
    """
    price = engine.capabilities.price
    amount = estimate_price(engine, task, seconds, outputs=outputs)
    if price is None or amount is None:
        return None
    return Cost(currency=price.currency, amount=amount)


def _count_outputs(task: Task) -> int:
    return len(task.seeds) if isinstance(task, ImageTask) else 1
