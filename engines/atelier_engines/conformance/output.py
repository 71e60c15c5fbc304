"""What an engine says while it works, and what it gives."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from atelier_engines.capabilities import AudioFeature, ImageFeature
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest
from atelier_engines.event import Output, Stage
from atelier_engines.task import ImageTask, Task


class OutputConformance(ConformanceFixtures):
    """Stages, steps and outputs, of pictures and sounds alike."""

    def test_every_seed_has_its_output_in_order(self, subject: EngineUnderTest, task: Task) -> None:
        """A task gives one output a seed and nothing more."""
        assert [output.seed for output in subject.outputs(task)] == list(_seeds(task))

    def test_its_progress_only_counts_up_and_reaches_its_total(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """Steps count from 1 over the whole task, to the total that they all name."""
        steps = subject.steps(task)
        indices = [step.index for step in steps]
        assert indices == sorted(set(indices))
        assert all(index >= 1 for index in indices)
        totals = {step.total for step in steps if step.total}
        assert len(totals) <= 1
        assert all(indices[-1] == total for total in totals)

    def test_its_stages_are_single_lower_case_words(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """Names of stages become labels of metrics."""
        stages = [event.name for event in subject.events(task) if isinstance(event, Stage)]
        assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) for name in stages)

    def test_work_is_announced_before_it_is_delivered(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """A watcher sees something before the first output, and nothing after the last."""
        events = subject.events(task)
        assert not isinstance(events[0], Output)
        assert isinstance(events[-1], Output)

    def test_the_same_seed_gives_equal_bytes(self, subject: EngineUnderTest, task: Task) -> None:
        """An engine that claims bit-exact seeds repeats itself exactly."""
        if not (_uses_seed(subject, task) and subject.bit_exact):
            pytest.skip("it does not claim bit-exact seeds")
        assert subject.bytes_of(task) == subject.bytes_of(task)

    def test_another_seed_gives_another_result(self, subject: EngineUnderTest, task: Task) -> None:
        """An engine that claims seeds obeys them."""
        if not _uses_seed(subject, task):
            pytest.skip("it does not claim seeds")
        assert subject.bytes_of(task) != subject.bytes_of(_with_seed(task, 8))


def _seeds(task: Task) -> Sequence[int]:
    return task.seeds if isinstance(task, ImageTask) else (task.seed,)


def _with_seed(task: Task, seed: int) -> Task:
    if isinstance(task, ImageTask):
        return replace(task, seeds=(seed,))
    return replace(task, seed=seed)


def _uses_seed(subject: EngineUnderTest, task: Task) -> bool:
    can = subject.capabilities
    if isinstance(task, ImageTask):
        return can.image is not None and ImageFeature.SEED in can.image.features
    return can.audio is not None and AudioFeature.SEED in can.audio.features
