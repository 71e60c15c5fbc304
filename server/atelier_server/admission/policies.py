"""How an engine is selected for a task that names none."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from enum import Enum

from atelier.v1.generation_pb2 import SelectionReason
from atelier_engines.task import Task
from atelier_server.admission.cost import estimate_price
from atelier_server.engines.status import EngineStatus
from atelier_server.estimates.service_times import Work

_ASSUMED_SECONDS = 10.0  # to compare prices by the second where the time is unknown


class Policy(Enum):
    """How an engine is selected for a task that names none; the values are those of the configuration."""

    DEFAULT = "default"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


Able = tuple[EngineStatus, Task]
"""An engine that can do a task, with the task as decided for it."""


def select_best(
    policy: Policy, able: Sequence[Able]
) -> tuple[EngineStatus, SelectionReason.ValueType]:
    """The best of the engines by price or by time, and why; the first of equals."""
    if policy is Policy.FASTEST:
        return min(able, key=_rank_time)[0], SelectionReason.SELECTION_REASON_FASTEST
    return min(able, key=_rank_price)[0], SelectionReason.SELECTION_REASON_CHEAPEST


def _rank_price(found: Able) -> float:
    engine, task = found
    seconds = _expect_seconds(found)
    return estimate_price(engine, task, _ASSUMED_SECONDS if seconds is None else seconds) or 0.0


def _rank_time(found: Able) -> float:
    """The time that the task is expected to take; an engine that has done nothing comparable comes last."""
    seconds = _expect_seconds(found)
    return math.inf if seconds is None else seconds


def _expect_seconds(found: Able) -> float | None:
    engine, task = found
    return engine.times.estimate(Work.of(task), time.monotonic()).expected
