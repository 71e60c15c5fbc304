"""A clip that is longer than the model's audio ends in silence, and the receipt says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import (
    DISPOSITION_APPLIED,
    DISPOSITION_CLAMPED,
    DISPOSITION_DEFAULTED,
    Disposition,
)
from atelier_engines.capabilities import AudioCapabilities, NumberRange
from atelier_engines.media import Samples
from atelier_server.admission.audio_task import resolve_audio_task
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.errors import InvalidRequestError

PADDED = AudioCapabilities(
    duration_seconds=NumberRange(min=0.1, max=30.0, default=10.0),
    audible_seconds=29.954,
    sample_rates=(44100,),
    channels=(2,),
)


def resolve(seconds: float | None, capabilities: AudioCapabilities) -> ParameterRecorder:
    """Decide a task of that duration; it is what was asked for, whatever the receipt says."""
    request = pb.AudioTask(prompt="rain")
    if seconds is not None:
        request.duration.FromMilliseconds(round(seconds * 1000))
    recorder = ParameterRecorder()
    task, _ = resolve_audio_task(
        request, capabilities, recorder, init_audio=None, options={}, random_seed=1
    )
    assert task.duration_seconds == (
        capabilities.duration_seconds.default if seconds is None else seconds
    )
    return recorder


@pytest.mark.parametrize(
    ("seconds", "disposition"), [(29.95, DISPOSITION_APPLIED), (30.0, DISPOSITION_CLAMPED)]
)
def test_the_receipt_says_where_silence_follows(
    seconds: float, disposition: Disposition.ValueType
) -> None:
    """And how long the audio is."""
    (entry,) = [one for one in resolve(seconds, PADDED).parameters if one.name == "duration"]
    assert entry.disposition == disposition
    assert entry.value.number_value == seconds
    padded = disposition == DISPOSITION_CLAMPED
    assert ("29.954 s of audio; silence follows, up to 30 s" in entry.explanation) == padded


def test_a_default_that_is_too_long_says_so_too() -> None:
    """It stays a default."""
    longest = replace(PADDED.duration_seconds, default=30.0)
    found = resolve(None, replace(PADDED, duration_seconds=longest)).parameters
    (entry,) = [one for one in found if one.name == "duration"]
    assert entry.disposition == DISPOSITION_DEFAULTED
    assert "silence follows" in entry.explanation


def test_a_strict_request_for_it_is_refused() -> None:
    """By the name of the field; what fits is not."""
    resolve(29.0, PADDED).reject_changes("audio")
    with pytest.raises(InvalidRequestError, match=r"audio.duration.*silence follows"):
        resolve(30.0, PADDED).reject_changes("audio")


@pytest.mark.parametrize(
    ("init_seconds", "loops", "made", "told"),
    [
        (0.5, False, 0.5, 0.5),
        (0.05, False, 0.1, 0.1),
        (100.0, False, 29.95, 29.95),
        (0.5, True, 0.75, 0.5),
        (100.0, True, 29.95, 28.95),
    ],
)
def test_initial_audio_decides_the_duration_within_the_limits(
    init_seconds: float, made: float, told: float, *, loops: bool
) -> None:
    """Of a loop, too, whose crossfade is at most half of it; and no clip made before stands in for it."""
    silence = np.broadcast_to(np.float32(0), (round(init_seconds * 8000), 1))
    recorder = ParameterRecorder()
    task, finishing = resolve_audio_task(
        pb.AudioTask(prompt="rain", seamless_loop=loops, init_audio=pb.MediaSource(attachment="a")),
        replace(PADDED, audible_seconds=29.95),
        recorder,
        init_audio=Samples(array=silence, sample_rate=8000),
        options={},
        random_seed=1,
    )
    assert task.duration_seconds == pytest.approx(made)
    assert finishing.seconds == pytest.approx(told)
    assert not task.reuse
