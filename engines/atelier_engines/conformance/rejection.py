"""Tests that tasks outside the capabilities are rejected before any work is begun."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from atelier_engines.capabilities import AudioCapabilities, ImageCapabilities
from atelier_engines.conformance import tasks
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest
from atelier_engines.errors import EngineError, InvalidTaskError, UnsupportedError
from atelier_engines.task import AudioTask, ImageTask, Task


class RejectionConformance(ConformanceFixtures):
    """The tests of tasks that must be rejected."""

    def test_an_image_outside_its_limits_is_rejected_before_any_work(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """Sizes, steps, guidance, number of images, seeds, prompt and option names are validated."""
        _assert_rejected(subject, tasks.images_out_of_limits(image, image_task), InvalidTaskError)

    def test_audio_outside_its_limits_is_rejected_before_any_work(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """Length, steps, guidance, candidates, seed and prompt are validated."""
        _assert_rejected(subject, tasks.audio_out_of_limits(audio, audio_task), InvalidTaskError)

    def test_an_image_that_needs_an_unclaimed_feature_is_rejected(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """Every feature that is not declared, and every name that is not listed."""
        _assert_rejected(subject, tasks.unsupported_images(image, image_task), UnsupportedError)

    def test_audio_that_needs_an_unclaimed_feature_is_rejected(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """Every feature that is not declared, and every rate and channel that is not listed."""
        _assert_rejected(subject, tasks.unsupported_audio(audio, audio_task), UnsupportedError)

    def test_an_engine_for_one_kind_of_task_rejects_the_other(
        self, subject: EngineUnderTest
    ) -> None:
        """An engine without audio tasks rejects them, and likewise for images."""
        capabilities = subject.capabilities
        others: list[Task] = []
        if capabilities.image is None:
            others.append(ImageTask(prompt="a cat", width=64, height=64, seeds=(1,)))
        if capabilities.audio is None:
            audio = AudioTask(
                prompt="a cat", duration_seconds=1, seed=1, sample_rate=44100, channels=1
            )
            others.append(audio)
        _assert_rejected(subject, others, UnsupportedError)

    def test_an_option_of_the_wrong_type_is_rejected_as_an_invalid_task(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """An object is rejected where the schema does not allow one."""
        properties = subject.capabilities.options_schema.get("properties")
        for name, schema in properties.items() if isinstance(properties, Mapping) else ():
            if "object" in str(schema) or "$ref" in str(schema):
                continue
            with pytest.raises(InvalidTaskError) as refused:
                subject.events(replace(task, options={name: {"un": "likely"}}))
            assert name in refused.value.field


def _assert_rejected(
    subject: EngineUnderTest, refused: Iterable[Task], wanted: type[EngineError]
) -> None:
    before = subject.runs
    for task in refused:
        with pytest.raises(wanted) as error:
            subject.events(task)
        assert str(error.value), "the message is empty"
        assert subject.runs == before, f"work was begun although {error.value}"
