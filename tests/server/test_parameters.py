"""How numbers are clamped to what an engine supports, and how the receipt says so."""

from __future__ import annotations

import pytest

from atelier.v1.generation_pb2 import Disposition
from atelier_engines.capabilities import IntegerRange
from atelier_server.admission.parameters import ParameterRecorder

VARIANTS = IntegerRange(min=2, max=8, default=4, allowed_values=(2, 4, 8))


@pytest.mark.parametrize(
    ("requested", "used"), [(1, 2), (2, 2), (3, 4), (5, 4), (6, 8), (8, 8), (50, 8)]
)
def test_steps_are_clamped_to_the_nearest_allowed_value(requested: int, used: int) -> None:
    """Of two equally near the larger; the explanation lists all."""
    recorder = ParameterRecorder()
    assert recorder.clamp("steps", requested, VARIANTS) == used
    (entry,) = recorder.parameters
    assert (entry.disposition == Disposition.DISPOSITION_APPLIED) == (requested == used)
    assert entry.explanation == ("" if requested == used else "this engine supports only 2, 4, 8")


def test_default_steps_are_clamped_too() -> None:
    """Those of a style, which may be used with several engines, and those of the engine."""
    assert ParameterRecorder().clamp("steps", None, VARIANTS, 30) == 8
    assert ParameterRecorder().clamp("steps", None, VARIANTS) == 4
