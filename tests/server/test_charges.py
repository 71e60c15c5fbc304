"""What the outputs of a generation cost: as the service charges, or by the price of the engine."""

from __future__ import annotations

import pytest

from atelier.v1.generation_pb2 import Receipt
from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    IntegerRange,
    Price,
    PriceUnit,
)
from atelier_engines.event import Charge
from atelier_engines.task import ImageTask
from atelier_server.admission.cost import estimate_cost
from atelier_server.engines.status import EngineStatus
from atelier_server.execution.charges import record_charges

TASK = ImageTask(prompt="a cat", width=2000, height=500, seeds=(1, 2, 3))
_SIZES = IntegerRange(min=64, max=4096, default=512)
_IMAGES = ImageCapabilities(width=_SIZES, height=_SIZES, max_pixels=4096**2)


def status(price: Price) -> EngineStatus:
    """An engine with that price."""
    able = Capabilities(description="a test", image=_IMAGES, price=price)
    return EngineStatus(name="one", type="test", capabilities=able, queue_limit=9)


@pytest.mark.parametrize(
    ("charges", "amount"),
    [
        ([Charge(amount=0.1), Charge(amount=0.2)], 0.3),
        ([Charge(amount=0.1), Charge()], 2.0),
        ([Charge(amount=0.1), Charge(amount=0.2, currency="EUR")], 2.0),
        ([Charge(amount=0.1)], 2.0),
        ([], 2.0),
    ],
)
def test_what_the_service_charges_is_the_cost_if_it_is_known_of_all(
    charges: list[Charge], amount: float
) -> None:
    """Of each output, in one currency; else the price of the engine holds."""
    receipt = Receipt()
    priced = status(Price(amount=1.0, unit=PriceUnit.IMAGE))
    record_charges(receipt, charges, engine=priced, task=TASK, made=2)
    assert receipt.cost.amount == pytest.approx(amount)
    assert receipt.cost.currency == "USD"


def test_a_price_by_the_megapixel_holds_for_each_image() -> None:
    """Of a million pixels each here; two of three were made."""
    priced = status(Price(amount=0.5, unit=PriceUnit.MEGAPIXEL))
    for outputs, amount in ((None, 1.5), (2, 1.0)):
        cost = estimate_cost(priced, TASK, None, outputs=outputs)
        assert cost is not None
        assert cost.amount == amount
