"""Tests that an engine starts, has consistent capabilities, stops, and starts again."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

from atelier_engines.conformance.consistency import contradictions
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest
from atelier_engines.task import Task


class LifecycleConformance(ConformanceFixtures):
    """The tests of start, check and stop."""

    def test_its_check_passes_after_the_start(self, subject: EngineUnderTest) -> None:
        """A started engine is ready."""
        subject.wait(subject.engine.check())

    def test_its_capabilities_are_consistent(self, subject: EngineUnderTest) -> None:
        """Defaults are inside their ranges, and every feature has the limits that it needs."""
        assert list(contradictions(subject.capabilities)) == []

    def test_it_works_again_after_a_stop_and_a_start(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """The capabilities are the same as before, and a task runs."""
        before = subject.capabilities
        subject.wait(subject.engine.stop())
        subject.wait(subject.engine.start())
        subject.wait(subject.engine.check())
        assert subject.capabilities == before
        assert subject.outputs(task)
