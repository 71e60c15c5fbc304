"""Writes into a receipt what its outputs cost."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.v1.generation_pb2 import Cost, Receipt
from atelier_engines.event import Charge
from atelier_engines.task import Task
from atelier_server.admission.cost import estimate_cost
from atelier_server.engines.status import EngineStatus


def record_charges(
    receipt: Receipt, charges: Sequence[Charge], *, engine: EngineStatus, task: Task, made: int
) -> None:
    """Write usage, cost and its explanation.

    Args:
        receipt: with all timings.
        charges: of the outputs, as far as the service tells.
        engine: its price holds, if it has one, unless the service tells the cost of each output.
        task: what they were made for.
        made: number of outputs.
    """
    for charge in charges:
        for name, number in charge.usage.items():
            receipt.usage[name] += number
    receipt.cost_explanation = "; ".join(
        dict.fromkeys(charge.explanation for charge in charges if charge.explanation)
    )
    cost = _sum(charges) if len(charges) == made else None
    if cost is None:
        seconds = sum(timing.duration.ToMicroseconds() for timing in receipt.timings) / 1e6
        cost = estimate_cost(engine, task, seconds, outputs=made)
    if cost is not None:
        receipt.cost.CopyFrom(cost)


def take_cost(receipt: Receipt) -> Cost:
    """The cost, which is removed from the receipt with all that explains it: another engine makes other outputs."""
    cost = Cost()
    cost.CopyFrom(receipt.cost)
    for field in ("cost", "cost_explanation", "usage"):
        receipt.ClearField(field)
    return cost


def _sum(charges: Sequence[Charge]) -> Cost | None:
    """The sum; None where an amount is unknown, or the currencies differ."""
    amounts = [charge.amount for charge in charges if charge.amount is not None]
    currencies = {charge.currency for charge in charges}
    if len(amounts) < len(charges) or len(currencies) != 1:
        return None
    return Cost(currency=currencies.pop(), amount=sum(amounts))
