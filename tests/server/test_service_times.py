"""What measurements say about the next task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.task import AudioTask, ImageTask
from atelier_server.estimates.service_times import ServiceTimes, Work

IMAGE = ImageTask(prompt="a lamp", width=512, height=512, seeds=(1,), steps=20, model="a")
SOUND = AudioTask(prompt="rain", duration_seconds=4, seed=1, sample_rate=44100, channels=2)


def learnt(*tasks: tuple[ImageTask, float], at: float = 0.0, sharing: int = 1) -> ServiceTimes:
    """The measurements of these tasks and seconds."""
    times = ServiceTimes()
    for task, seconds in tasks:
        times = times.learn(Work.of(task), seconds, at=at, sharing=sharing)
    return times


def test_nothing_is_said_before_the_first_measurement() -> None:
    """Neither how long it takes nor how long at least."""
    estimate = ServiceTimes().estimate(Work.of(IMAGE), 0.0)
    assert (estimate.least, estimate.expected, ServiceTimes().typical_seconds) == (0.0, None, None)


@pytest.mark.parametrize(
    "other",
    [
        replace(IMAGE, model="b"),
        replace(IMAGE, scheduler="euler"),
        replace(IMAGE, guidance=5.0),
        replace(IMAGE, options={"quality": "high"}),
        replace(IMAGE, steps=1000),
        replace(IMAGE, width=64, height=64),
        SOUND,
    ],
    ids=lambda other: str(Work.of(other)),
)
def test_tasks_of_other_kinds_and_sizes_say_nothing(other: ImageTask | AudioTask) -> None:
    """Nor do their times say anything about this one."""
    times = learnt(*[(IMAGE, 3.0)] * 5)
    assert times.estimate(Work.of(other), 0.0).expected is None


def test_the_size_is_pixels_by_steps_by_images_or_seconds_by_steps_by_candidates() -> None:
    """Twice of one and half of another is the same; prompt and seed do not count."""
    assert Work.of(replace(IMAGE, width=1024, steps=10)) == Work.of(IMAGE)
    assert Work.of(replace(IMAGE, seeds=(3, 4), steps=10, prompt="rain")) == Work.of(IMAGE)
    twice = Work.of(replace(SOUND, duration_seconds=8))
    assert twice == Work.of(replace(SOUND, candidates=2))
    assert twice.size > Work.of(SOUND).size


def test_a_similar_size_is_scaled() -> None:
    """Half as many steps more are about half as much time more."""
    times = learnt(*[(IMAGE, 2.0)] * 3)
    larger = times.estimate(Work.of(replace(IMAGE, steps=30)), 0.0)
    assert larger.expected == pytest.approx(3.0, rel=0.1)
    assert larger.least == 2.0


def test_one_outlier_changes_little() -> None:
    """The median is expected, and the shortest time is what it takes at least."""
    times = learnt((IMAGE, 67.0), (IMAGE, 1.0), (IMAGE, 1.2), (IMAGE, 1.1))
    estimate = times.estimate(Work.of(IMAGE), 0.0)
    assert estimate.expected == pytest.approx(1.15)
    assert estimate.least == 1.0
    alone = learnt((IMAGE, 67.0)).estimate(Work.of(IMAGE), 0.0)
    assert (alone.least, alone.expected) == (0.0, 67.0)


def test_larger_tasks_are_no_evidence_against_smaller_ones() -> None:
    """Their share of the time need not be proportional."""
    times = learnt(*[(IMAGE, 8.0)] * 5)
    assert times.estimate(Work.of(replace(IMAGE, steps=19)), 0.0).least == 0.0


def test_evidence_against_a_deadline_expires() -> None:
    """What is refused teaches nothing, so that a slow hour would otherwise last for ever."""
    times = learnt(*[(IMAGE, 9.0)] * 5, at=1000.0)
    assert times.estimate(Work.of(IMAGE), 1500.0).least == 9.0
    assert times.estimate(Work.of(IMAGE), 3000.0).least == 0.0
    assert times.estimate(Work.of(IMAGE), 3000.0).expected == 9.0


def test_a_task_that_shared_the_engine_might_have_been_faster_alone() -> None:
    """By as much as there were tasks."""
    shared = learnt(*[(IMAGE, 8.0)] * 5, sharing=4).estimate(Work.of(IMAGE), 0.0)
    assert (shared.least, shared.expected) == (2.0, 8.0)


def test_the_newest_measurements_count_and_few_are_kept() -> None:
    """Of each kind, and of all kinds."""
    times = learnt(*[(IMAGE, 9.0)] * 50, *[(IMAGE, 1.0)] * 40)
    assert times.estimate(Work.of(IMAGE), 0.0).expected == 1.0
    assert times.typical_seconds == 1.0
    for number in range(200):
        times = times.learn(Work.of(replace(IMAGE, model=str(number))), 5.0, at=0.0)
    assert times.estimate(Work.of(IMAGE), 0.0).expected is None
    assert len(times._kinds) <= 64
