"""An engine starts, says what it can do, stops, and starts again."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

from atelier_engines.conformance.consistency import contradictions
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest
from atelier_engines.task import Task


class LifecycleConformance(ConformanceFixtures):
    """Starting, checking, stopping."""

    def test_its_check_passes_after_the_start(self, subject: EngineUnderTest) -> None:
        """A started engine is ready to serve."""
        subject.wait(subject.engine.check())

    def test_its_capabilities_do_not_contradict_themselves(self, subject: EngineUnderTest) -> None:
        """Defaults lie within ranges, ranges on their grids, features have what they need."""
        assert list(contradictions(subject.capabilities)) == []

    def test_it_works_again_after_a_stop_and_a_start(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """Stopping gives everything back, and starting takes it again."""
        before = subject.capabilities
        subject.wait(subject.engine.stop())
        subject.wait(subject.engine.start())
        subject.wait(subject.engine.check())
        assert subject.capabilities == before
        assert subject.outputs(task)
