"""The work that each engine has ahead of it, and how long it will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from atelier.v1.generation_pb2 import STATE_QUEUED, STATE_RUNNING
from atelier_server.estimates.service_times import UNKNOWN, Estimate, ServiceTimes, Work
from atelier_server.store.protocol import ENDED, Event

_Kind: TypeAlias = "tuple[Work | None, bool]"
"""The work of a generation, and whether it has the priority BATCH."""


@dataclass(slots=True, eq=False)
class _Place:
    """Where a generation is."""

    engine: str
    work: Work | None
    caller: str
    batch: bool
    started: float | None = None
    """When it began to run; None while it waits."""


class Backlog:
    """The work of the generations that wait or run. The events of the store say which of the two, and when they end."""

    def __init__(self, find_weight: Callable[[str], float] = lambda _: 1.0) -> None:
        """Start without work; callers take turns by these weights, those of equal weight without any."""
        self._find_weight = find_weight
        self._places: dict[str, _Place] = {}
        self._waiting: dict[str, dict[str, Counter[_Kind]]] = {}
        """By engine and caller."""
        self._running: dict[str, dict[str, _Place]] = {}
        self._queued: dict[str, dict[str, float]] = {}
        """When each generation entered the engine's queue, by the monotonic clock; the oldest first."""

    def add(
        self,
        generation_id: str,
        engine: str,
        work: Work | None,
        caller: str,
        *,
        batch: bool = False,
    ) -> None:
        """Let the generation wait for the engine, wherever it was before; None for work that cannot be told.

        `batch` says whether it has the priority BATCH: others of its caller go first.
        """
        self.remove(generation_id)
        self._places[generation_id] = _Place(engine, work, caller, batch)
        self._waiting.setdefault(engine, {}).setdefault(caller, Counter())[work, batch] += 1
        self._queued.setdefault(engine, {})[generation_id] = time.monotonic()

    def remove(self, generation_id: str) -> None:
        """Forget the generation: it was not accepted, or has ended."""
        place = self._places.pop(generation_id, None)
        if place is not None:
            self._take_out(generation_id, place)

    def follow(self, event: Event) -> None:
        """Take note of where the generation is now; to be called with every event but those of progress."""
        place = self._places.get(event.generation_id)
        if place is None:
            return
        state = event.state
        if state in ENDED:
            self.remove(event.generation_id)
        elif state == STATE_RUNNING and place.started is None:
            self._take_out(event.generation_id, place)
            place.started = time.monotonic()
            self._running.setdefault(place.engine, {})[event.generation_id] = place
        elif state == STATE_QUEUED and place.started is not None:
            self.add(event.generation_id, place.engine, place.work, place.caller, batch=place.batch)

    def find_age(self, engine: str) -> float:
        """Seconds for which the generation has waited that waits longest; 0 if none waits."""
        oldest = next(iter(self._queued.get(engine, {}).values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    def estimate_wait(
        self, engine: str, caller: str, times: ServiceTimes, slots: int, *, batch: bool = False
    ) -> Estimate:
        """How long a new generation waits for one of the engine's slots behind all that it has ahead of it.

        That is what runs and what its caller has waiting: without what has the priority BATCH; but if the new one has
        it, all counts, and the others are not certain to go first. Of each other caller it is as much as of its own,
        by weight, since callers take turns: what they are certain to be given in that time is nothing.
        """
        waiting = self._waiting.get(engine, {})
        ahead = [*self._estimate_running(engine, times)]
        own = _estimate_own(waiting.get(caller, {}), times, batch=batch)
        ahead += own
        for other, works in waiting.items():
            if other != caller and own:
                ratio = self._find_weight(other) / self._find_weight(caller)
                ahead += _limit_to_share(list(_estimate_waiting(works, times)), own, ratio)
        if sum(count for count, _ in ahead) < slots:
            return Estimate(0.0, 0.0)
        least = _find_start(((count, each.least) for count, each in ahead), slots)
        known = [(count, each.expected) for count, each in ahead if each.expected is not None]
        expected = _find_start(known, slots) if len(known) == len(ahead) else None
        return Estimate(least, expected)

    def count_waiting(self, engine: str, caller: str) -> int:
        """How many generations the caller has in the engine's queue."""
        return self._waiting.get(engine, {}).get(caller, Counter()).total()

    def estimate_end(self, engine: str, times: ServiceTimes, slots: int) -> float | None:
        """Seconds in which all that waits and runs will have ended; None if that is unknown."""
        total = longest = 0.0
        for count, each in self._estimate_all(engine, times):
            if each.expected is None:
                return None
            total += count * each.expected
            longest = max(longest, each.expected)
        return max(total / slots, longest)

    def _estimate_all(self, engine: str, times: ServiceTimes) -> Iterator[tuple[float, Estimate]]:
        """How many generations take how long from now on."""
        for works in self._waiting.get(engine, {}).values():
            yield from _estimate_waiting(works, times)
        yield from self._estimate_running(engine, times)

    def _estimate_running(
        self, engine: str, times: ServiceTimes
    ) -> Iterator[tuple[float, Estimate]]:
        now = time.monotonic()
        for place in self._running.get(engine, {}).values():
            whole = UNKNOWN if place.work is None else times.estimate(place.work, now)
            elapsed = now - (place.started or now)
            expected = None if whole.expected is None else max(0.0, whole.expected - elapsed)
            yield 1, Estimate(max(0.0, whole.least - elapsed), expected)

    def _take_out(self, generation_id: str, place: _Place) -> None:
        if place.started is not None:
            del self._running[place.engine][generation_id]
            return
        del self._queued[place.engine][generation_id]
        waiting = self._waiting[place.engine]
        works = waiting[place.caller]
        kind = place.work, place.batch
        works[kind] -= 1
        if not works[kind]:
            del works[kind]
        if not works:
            del waiting[place.caller]


def _estimate_own(
    works: Mapping[_Kind, int], times: ServiceTimes, *, batch: bool
) -> list[tuple[float, Estimate]]:
    """How many of the caller's own generations take how long that go before a new one of that priority."""
    same = {kind: count for kind, count in works.items() if kind[1] is batch}
    ahead = list(_estimate_waiting(same, times))
    if batch:
        others = {kind: count for kind, count in works.items() if not kind[1]}
        for count, each in _estimate_waiting(others, times):
            ahead.append((count, Estimate(0.0, each.expected)))
    return ahead


def _estimate_waiting(
    works: Mapping[_Kind, int], times: ServiceTimes
) -> Iterator[tuple[float, Estimate]]:
    """How many generations take how long."""
    now = time.monotonic()
    for (work, _), count in works.items():
        yield count, UNKNOWN if work is None else times.estimate(work, now)


def _limit_to_share(
    theirs: Sequence[tuple[float, Estimate]], own: Sequence[tuple[float, Estimate]], ratio: float
) -> list[tuple[float, Estimate]]:
    """Of another caller's generations as many as take so many times as long as the caller's own."""
    total, limit = (
        sum(count * (each.expected or 0.0) for count, each in some) for some in (theirs, own)
    )
    part = min(1.0, ratio * limit / total) if total else 0.0
    return [(count * part, Estimate(0.0, each.expected)) for count, each in theirs]


def _find_start(ahead: Iterable[tuple[float, float]], slots: int) -> float:
    """When a slot is free for the next one, if those ahead take so long.

    At that moment at most `slots - 1` of those ahead are unfinished: the slots have done all other work together.
    """
    total = longest = 0.0
    for count, seconds in ahead:
        total += count * seconds
        longest = max(longest, seconds)
    return max(0.0, total - (slots - 1) * longest) / slots
