"""Tests of the events of a task, and of its outputs."""

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
    """The tests of stages, steps and outputs, for images and audio."""

    def test_every_seed_has_its_output_in_order(self, subject: EngineUnderTest, task: Task) -> None:
        """A task has exactly one output for each seed."""
        assert [output.seed for output in subject.outputs(task)] == list(_seeds(task))

    def test_its_steps_increase_and_reach_their_total(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """Steps count from 1 over the whole task to their total, which is the same in all of them."""
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
        """The names of stages become labels of metrics."""
        stages = [event.name for event in subject.events(task) if isinstance(event, Stage)]
        assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) for name in stages)

    def test_a_stage_or_step_comes_before_the_first_output(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """The first event is not an output, and the last one is."""
        events = subject.events(task)
        assert not isinstance(events[0], Output)
        assert isinstance(events[-1], Output)

    def test_the_same_seed_gives_equal_bytes(self, subject: EngineUnderTest, task: Task) -> None:
        """An engine that claims bit-exact results repeats them exactly."""
        if not (_uses_seed(subject, task) and subject.bit_exact):
            pytest.skip("it does not claim bit-exact seeds")
        assert subject.bytes_of(task) == subject.bytes_of(task)

    def test_another_seed_gives_another_result(self, subject: EngineUnderTest, task: Task) -> None:
        """An engine that claims SEED uses the seed."""
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
    capabilities = subject.capabilities
    if isinstance(task, ImageTask):
        return capabilities.image is not None and ImageFeature.SEED in capabilities.image.features
    return capabilities.audio is not None and AudioFeature.SEED in capabilities.audio.features
