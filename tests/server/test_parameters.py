"""How the receipt tells what became of a number."""

from __future__ import annotations

import pytest

from atelier.v1.generation_pb2 import Disposition
from atelier_engines.capabilities import IntegerRange
from atelier_server.admission.parameters import ParameterRecorder

VARIANTS = IntegerRange(min=2, max=8, default=4, allowed_values=(2, 4, 8))


@pytest.mark.parametrize(
    ("asked", "used"), [(1, 2), (2, 2), (3, 4), (5, 4), (6, 8), (8, 8), (50, 8)]
)
def test_steps_come_to_the_nearest_that_there_are(asked: int, used: int) -> None:
    """Of two as near the larger; the receipt names them all."""
    ledger = ParameterRecorder()
    assert ledger.clamp("steps", asked, VARIANTS) == used
    (entry,) = ledger.parameters
    assert (entry.disposition == Disposition.DISPOSITION_APPLIED) == (asked == used)
    assert entry.explanation == ("" if asked == used else "this engine supports only 2, 4, 8")


def test_the_steps_of_a_style_come_to_the_nearest_too() -> None:
    """A style may serve several engines."""
    assert ParameterRecorder().clamp("steps", None, VARIANTS, 30) == 8
    assert ParameterRecorder().clamp("steps", None, VARIANTS) == 4
