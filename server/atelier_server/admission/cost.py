"""What a task costs on an engine, by the price that the engine states."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Cost
from atelier_engines.capabilities import PriceUnit
from atelier_engines.task import ImageTask, Task
from atelier_server.engines.status import EngineStatus

_ASSUMED_SECONDS = 10.0  # of one generation, for prices by the second while none was measured


def estimate_price(engine: EngineStatus, task: Task) -> float:
    """Estimated cost of the task, in the currency of the engine's price; 0 when the engine is free."""
    price = engine.capabilities.price
    if price is None:
        return 0.0
    match price.unit:
        case PriceUnit.IMAGE:
            return price.amount * _count_outputs(task)
        case PriceUnit.MEGAPIXEL:
            pixels = task.width * task.height if isinstance(task, ImageTask) else 0
            return price.amount * _count_outputs(task) * pixels / 1e6
        case PriceUnit.SECOND:
            return price.amount * (engine.service_seconds or _ASSUMED_SECONDS)


def estimate_cost(engine: EngineStatus, task: Task) -> Cost:
    """Estimated cost of the task on the engine, in the currency of the engine's price."""
    price = engine.capabilities.price
    currency = "" if price is None else price.currency
    return Cost(currency=currency, amount=estimate_price(engine, task))


def _count_outputs(task: Task) -> int:
    return len(task.seeds) if isinstance(task, ImageTask) else 1
