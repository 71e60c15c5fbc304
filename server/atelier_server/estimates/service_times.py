"""How long a task takes on an engine, by the tasks of its kind that it has done. Pure: no clock, no I/O.

Times are compared within one kind of work only (the model, and all that changes the time beside the size), and by size:
pixels x steps x images, or seconds of audio x steps x candidates. What was never measured has no estimate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from atelier.v1.generation_pb2 import AttemptOutcome, Receipt
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_server.estimates.cost_units import measure_amount

_SIZES_PER_DOUBLING = 8  # sizes are rounded by up to 4.5 %, so that a queue has few different ones
_COMPARABLE = _SIZES_PER_DOUBLING  # a task of half or of twice the size says what this one takes; no other does
_MAX_COMPARED = 8
_MIN_EVIDENCE = 3  # so many tasks must have taken longer before a deadline counts as unattainable
_EVIDENCE_SECONDS = (
    600.0  # age of the oldest of these; what is refused teaches nothing, so evidence must expire
)
_MAX_AGE_SECONDS = 1.0  # of an estimate; it ages because evidence expires
_MAX_MEASUREMENTS = 32  # of one kind
_MAX_KINDS = 64
_CONTINUED = frozenset(
    {
        AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED,
        AttemptOutcome.ATTEMPT_OUTCOME_RELEASED,
    }
)
"""Outcomes after which the next attempt may have continued a job that began before it."""
_MAX_TOLD = 8  # measurements of one kind that other servers are told of
_STARTING_STAGES = frozenset({"queued", "rent", "start", "wait"})
"""Stages in which a remote service has not begun the task: its queue, a machine that starts."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the time of a task depends on."""

    kind: str
    """Model, settings and options; times of different kinds say nothing about each other."""
    size: int
    """Amount of work, on a logarithmic scale of 8 sizes to each doubling."""

    @classmethod
    def of(cls, task: Task) -> Work:
        """The work of a decided task."""
        amount = measure_amount(task)
        options = json.dumps(task.options, sort_keys=True) if task.options else ""
        size = round(math.log2(amount) * _SIZES_PER_DOUBLING) if amount > 0 else 0
        return cls(f"{_describe_kind(task)}|{options}", size)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long something takes, in seconds."""

    least: float
    """It takes at least this; 0 where too little was measured."""
    expected: float | None
    """It takes about this; None where nothing comparable was measured."""


def measure_service_time(receipt: Receipt) -> float | None:
    """Seconds that an engine took for a task that succeeded; None if the receipt does not tell.

    The time before the work began does not count. Results from a cache tell nothing, nor do attempts that continued
    the job of an earlier one.
    """
    continued = any(tried.outcome in _CONTINUED for tried in receipt.attempts)
    if receipt.cached or continued or not receipt.timings:
        return None
    return sum(
        timing.duration.seconds + timing.duration.nanos / 1e9
        for timing in receipt.timings
        if timing.stage not in _STARTING_STAGES
    )


UNKNOWN = Estimate(0.0, None)
"""The estimate of work of which nothing is known."""


@dataclass(frozen=True, slots=True)
class _Measurement:
    """The time of one task."""

    size: int
    seconds: float
    alone: float
    """Seconds that it would have taken with the engine to itself, at least."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The time of one task, for other servers."""

    kind: str
    """See Work."""
    size: int
    """See Work."""
    seconds: float
    """How long it took."""
    alone: float
    """How long it would have taken with the engine to itself, at least."""
    age: float
    """Seconds since it ended."""


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """The newest measurements of one engine."""

    _kinds: Mapping[str, tuple[_Measurement, ...]] = field(default_factory=dict)
    """By kind, the kind measured last at the end; of each kind the newest measurement at the end."""
    _latest: tuple[float, ...] = ()
    """Seconds of the newest tasks of all kinds."""
    _recent: dict[Work, tuple[float, Estimate]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Estimates and when they were made: a long queue asks for the same ones again and again."""

    @property
    def typical_seconds(self) -> float | None:
        """Median over the newest tasks, whatever their work; None before the first."""
        return median(self._latest) if self._latest else None

    def learn(self, work: Work, seconds: float, *, at: float, sharing: int = 1) -> ServiceTimes:
        """These and one task more, which ended `at` (by a monotonic clock).

        `sharing` is how many tasks, itself included, have shared the engine with it.
        """
        added = _Measurement(work.size, seconds, seconds / sharing, at)
        kinds = dict(self._kinds)
        before = kinds.pop(work.kind, ())
        kinds[work.kind] = (*before[1 - _MAX_MEASUREMENTS :], added)
        if len(kinds) > _MAX_KINDS:
            del kinds[next(iter(kinds))]
        latest = (*self._latest[1 - _MAX_MEASUREMENTS :], seconds)
        return ServiceTimes(kinds, latest)

    def list_newest(self, now: float) -> tuple[Measured, ...]:
        """The newest measurements of each kind, the newest of all at the end; `now` as in `estimate`."""
        found = [
            Measured(kind=kind, size=m.size, seconds=m.seconds, alone=m.alone, age=now - m.at)
            for kind, measured in self._kinds.items()
            for m in measured[-_MAX_TOLD:]
        ]
        return tuple(sorted(found, key=lambda each: -each.age))

    @classmethod
    def combine(cls, measured: Sequence[Measured], now: float) -> ServiceTimes:
        """What these measurements, of several servers, say together; `now` as in `estimate`."""
        kinds: dict[str, tuple[_Measurement, ...]] = {}
        ordered = sorted(measured, key=lambda each: -each.age)
        for each in ordered:
            added = _Measurement(each.size, each.seconds, each.alone, now - each.age)
            kinds[each.kind] = (*kinds.pop(each.kind, ())[1 - _MAX_MEASUREMENTS :], added)
        latest = tuple(each.seconds for each in ordered[-_MAX_MEASUREMENTS:])
        return cls(dict(list(kinds.items())[-_MAX_KINDS:]), latest)

    def estimate(self, work: Work, now: float) -> Estimate:
        """What the work will take; `now` is of the clock that `learn` was given times of."""
        measured = self._kinds.get(work.kind)
        if measured is None:
            return UNKNOWN
        made_at, estimate = self._recent.get(work, (-math.inf, UNKNOWN))
        if not 0 <= now - made_at < _MAX_AGE_SECONDS:
            least = _find_least(measured, work.size, now)
            estimate = Estimate(least, _find_expected(measured, work.size))
            self._recent[work] = (now, estimate)
        return estimate


def _find_least(measured: tuple[_Measurement, ...], size: int, now: float) -> float:
    """The shortest time of recent tasks that were no larger, of those nearest in size; 0 with too few of them.

    It assumes no more than that a larger task of the same kind takes no less time.
    """
    smaller = [m for m in measured if m.size <= size and now - m.at <= _EVIDENCE_SECONDS]
    if len(smaller) < _MIN_EVIDENCE:
        return 0.0
    smaller.sort(key=lambda m: -m.size)
    return min(m.alone for m in smaller[:_MAX_COMPARED])


def _find_expected(measured: tuple[_Measurement, ...], size: int) -> float | None:
    """The median of the tasks nearest in size, each scaled to this size; None if the nearest is too far."""
    nearest = min(abs(m.size - size) for m in measured)
    if nearest > _COMPARABLE:
        return None
    near = [m for m in measured if abs(m.size - size) <= nearest + 1][-_MAX_COMPARED:]
    return median(m.seconds * 2 ** ((size - m.size) / _SIZES_PER_DOUBLING) for m in near)


def _describe_kind(task: Task) -> str:
    if isinstance(task, ImageTask):
        return _describe_image_kind(task)
    return _describe_audio_kind(task)


def _describe_image_kind(task: ImageTask) -> str:
    upscale = "" if task.upscale is None else f"{task.upscale.model}x{task.upscale.factor}"
    profile = "" if task.resource_profile is None else task.resource_profile.value
    guided = task.guidance is not None and task.guidance > 1.0
    sources = f"{task.init_image is not None}{task.mask is not None}{len(task.controls)}"
    return (
        f"image|{task.model}|{task.scheduler}|{guided}|{sources}|{len(task.loras)}|{upscale}|"
        f"{profile}"
    )


def _describe_audio_kind(task: AudioTask) -> str:
    guided = task.guidance is not None and task.guidance > 1.0
    processing = f"{task.seamless_loop}{task.loudness_lufs is not None}"
    source = f"{task.init_audio is not None}{task.continuation}"
    return f"audio|{task.model}|{guided}|{task.sample_rate}|{task.channels}|{processing}|{source}"
