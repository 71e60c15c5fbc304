"""Tests that audio has the exact requested length, and that every claimed feature has an effect."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from atelier_engines.capabilities import AudioCapabilities, AudioFeature
from atelier_engines.conformance import tasks
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest
from atelier_engines.media import Encoded, Samples

if TYPE_CHECKING:
    from atelier_engines.task import AudioTask

_PREVIEW_SIDE, _PREVIEW_BYTES = 512, 2**17
_SEAM_SECONDS, _CLOSE = 0.2, 1e-4


class AudioConformance(ConformanceFixtures):
    """The tests of engines that generate audio."""

    def test_audio_has_exactly_the_requested_length(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """At every sample rate and channel count; no sample is outside -1 to 1. Speech is as long as its words."""
        for rate in audio.sample_rates:
            for channels in audio.channels:
                task = replace(audio_task, sample_rate=rate, channels=channels)
                _assert_valid_audio(subject, task, exact=not audio.prompt_decides_duration)

    def test_an_odd_length_is_exact_too(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """A length that is not a whole number of seconds is exact to the sample."""
        if audio.prompt_decides_duration:
            pytest.skip("its prompt decides how long the audio is")
        odd = audio_task.duration_seconds + 0.01237
        if odd > audio.duration_seconds.max:
            pytest.skip("it has only one length")
        _assert_valid_audio(subject, replace(audio_task, duration_seconds=odd))

    def test_a_seamless_loop_ends_where_it_begins(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """The step from the last sample to the first is no larger than those inside."""
        if AudioFeature.SEAMLESS_LOOP not in audio.features:
            pytest.skip("it does not claim SEAMLESS_LOOP")
        task = replace(audio_task, seamless_loop=True)
        _assert_loop(subject, task)
        if AudioFeature.AUDIO_TO_AUDIO in audio.features:
            rising = np.linspace(
                -0.9, 0.9, len(tasks.random_audio(task, 1).array), dtype=np.float32
            )
            ramp = np.repeat(rising[:, None], task.channels, axis=1)
            initial = Samples(array=ramp, sample_rate=task.sample_rate)
            _assert_loop(subject, replace(task, init_audio=initial, strength=0.25))

    def test_initial_audio_has_an_effect(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """It may be shorter than the duration; other audio and another strength give other results."""
        if AudioFeature.AUDIO_TO_AUDIO not in audio.features:
            pytest.skip("it does not claim AUDIO_TO_AUDIO")
        first, other = (tasks.random_audio(audio_task, seed) for seed in (1, 2))
        short = tasks.random_audio(audio_task, 1, share=0.3)
        results = []
        begun = ((first, 0.5), (other, 0.5), (short, 0.5), (first, 0.0), (first, 1.0))
        for initial, strength in begun:
            task = replace(audio_task, init_audio=initial, strength=strength)
            _assert_valid_audio(subject, task)
            results.append(subject.bytes_of(task)[0])
        if subject.bit_exact:
            assert len(set(results)) == len(results)

    def test_a_continuation_begins_with_its_audio(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """But for a gain and its last 0.2 s, after which something else follows, without a jump."""
        if AudioFeature.CONTINUATION not in audio.features:
            pytest.skip("it does not claim CONTINUATION")
        task = tasks.continuing(audio_task)
        given = task.init_audio
        assert given is not None
        media = subject.outputs(task)[0].media
        if not isinstance(media, Samples):
            pytest.skip("it returns files, which are not decoded here")
        _assert_valid_audio(subject, task)
        head = len(given.array) - round(_SEAM_SECONDS * task.sample_rate)
        expected, made = given.array[:head], media.array[:head]
        gain = float((made * expected).sum() / (expected**2).sum())
        assert 0.0 < gain <= 1.0 + _CLOSE
        assert np.abs(made - gain * expected).max() <= _CLOSE
        jumps = np.abs(np.diff(media.array, axis=0)).max(axis=1)
        seam = slice(head - 1, len(given.array) + 1)
        assert jumps[seam].max() <= max(jumps[: head - 1].max(), jumps[seam.stop :].max())
        assert media.array[len(given.array) :].any()

    def test_previews_of_audio_are_sent_on_request_and_are_small(
        self, subject: EngineUnderTest, audio: AudioCapabilities, audio_task: AudioTask
    ) -> None:
        """A preview is an image file of at most 512 pixels a side and 128 KiB."""
        if AudioFeature.PREVIEW not in audio.features:
            pytest.skip("it does not claim PREVIEW")
        steps = subject.steps(replace(audio_task, preview_interval=1))
        previews = [step.preview for step in steps if step.preview is not None]
        assert previews
        for preview in previews:
            assert preview.media_type.startswith("image/")
            assert max(preview.width, preview.height) <= _PREVIEW_SIDE
            assert len(preview.data) <= _PREVIEW_BYTES
        indices = [step.index for step in steps]
        assert indices == sorted(set(indices))
        assert steps[-1].index == steps[-1].total
        assert all(step.preview is None for step in subject.steps(audio_task))


def _assert_loop(subject: EngineUnderTest, task: AudioTask) -> None:
    media = subject.outputs(task)[0].media
    if not isinstance(media, Samples):
        pytest.skip("it returns files, which are not decoded here")
    within = np.abs(np.diff(media.array, axis=0)).max(axis=0)
    assert np.all(np.abs(media.array[0] - media.array[-1]) <= within)


def _assert_valid_audio(subject: EngineUnderTest, task: AudioTask, *, exact: bool = True) -> None:
    media = subject.outputs(task)[0].media
    if isinstance(media, Encoded):
        assert media.media_type.startswith("audio/")
        return
    assert isinstance(media, Samples), "the output is not audio"
    assert media.sample_rate == task.sample_rate
    length = round(task.duration_seconds * task.sample_rate) if exact else len(media.array)
    assert media.array.shape == (length, task.channels)
    assert media.array.dtype == np.float32
    assert np.all(np.isfinite(media.array))
    assert np.abs(media.array).max() <= 1.0
    assert media.array.any(), "the audio is silent"
