"""How long a generation waits, where several callers take turns at an engine."""

from __future__ import annotations

from atelier_server.estimates.backlog import Backlog
from atelier_server.estimates.service_times import Estimate, ServiceTimes, Work

WORK = Work("image", 8)


def learnt(seconds: float) -> ServiceTimes:
    """What an engine knows that has done the work some times, each in so many seconds."""
    times = ServiceTimes()
    for number in range(4):
        times = times.learn(WORK, seconds, at=float(number))
    return times


def test_others_count_as_much_as_the_own_work() -> None:
    """A long queue of one keeps nobody else waiting for all of it, and makes no deadline of another unattainable."""
    backlog, times = Backlog(), learnt(2.0)
    for number in range(100):
        backlog.add(f"ada{number}", "sketch", WORK, "ada")

    def expect(caller: str) -> float | None:
        return backlog.estimate_wait("sketch", caller, times, 1).expected

    assert (expect("ada"), expect("bob")) == (200.0, 0.0)
    for number in range(3):
        backlog.add(f"bob{number}", "sketch", WORK, "bob")
    assert (expect("bob"), expect("ada")) == (12.0, 206.0)
    assert backlog.estimate_wait("sketch", "cy", times, 1) == Estimate(0.0, 0.0)
    for number in range(100):
        backlog.remove(f"ada{number}")
    assert (expect("ada"), expect("bob")) == (0.0, 6.0)


def test_others_count_by_their_weight() -> None:
    """Who has three times the weight is given three times the work meanwhile, and waits for a third of the other's."""
    backlog, times = Backlog({"ada": 3.0, "bob": 1.0}.__getitem__), learnt(2.0)
    for number in range(9):
        for caller in ("ada", "bob"):
            backlog.add(f"{caller}{number}", "sketch", WORK, caller)
    expected = [
        backlog.estimate_wait("sketch", caller, times, 1).expected for caller in ("ada", "bob")
    ]
    assert expected == [18.0 + 6.0, 18.0 + 18.0]
    assert [backlog.count_waiting("sketch", caller) for caller in ("ada", "cy")] == [9, 0]


def test_batch_work_keeps_only_batch_work_waiting() -> None:
    """Of the caller itself; for others its priority does not matter."""
    backlog, times = Backlog(), learnt(2.0)
    for number in range(4):
        backlog.add(f"ada{number}", "sketch", WORK, "ada", batch=number > 0)
    backlog.add("bob", "sketch", WORK, "bob")

    def expect(caller: str, *, batch: bool) -> float | None:
        return backlog.estimate_wait("sketch", caller, times, 1, batch=batch).expected

    assert (expect("ada", batch=False), expect("ada", batch=True)) == (4.0, 10.0)
    assert expect("bob", batch=False) == 4.0
