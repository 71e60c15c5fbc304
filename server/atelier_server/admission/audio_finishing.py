"""Decides what an engine makes of an audio task, and what the server does with its samples afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import AudioCapabilities, AudioFeature
from atelier_server.admission.parameters import ParameterRecorder, to_decimal
from atelier_server.artifacts.audio.formats import (
    AUDIO_FORMATS,
    OUTPUT_SAMPLE_RATES,
    AudioFileFormat,
    nearest_rate,
)
from atelier_server.artifacts.audio.plan import MIN_LOUDNESS_SECONDS, Finishing
from atelier_server.errors import InvalidRequestError, Violation

_CROSSFADE_SECONDS = 1.0
_MIN_CROSSFADE_SECONDS = 0.02
_MAX_CROSSFADE_SHARE = 0.5
"""Of the duration."""
_MIXABLE = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioLayout:
    """What the engine makes, and what becomes of it."""

    sample_rate: int
    """Hertz that the engine makes."""
    channels: int
    """Channels that the engine makes."""
    duration_seconds: float
    """What the engine makes."""
    seamless_loop: bool
    """Whether the engine makes a loop itself."""
    loudness_lufs: float | None
    """The loudness that the engine makes itself."""
    finishing: Finishing


def list_output_rates(capabilities: AudioCapabilities) -> list[int]:
    """Sample rates that a task can ask for, ascending."""
    return sorted({*OUTPUT_SAMPLE_RATES, *capabilities.sample_rates})


def list_output_channels(capabilities: AudioCapabilities) -> list[int]:
    """Numbers of channels that a task can ask for, ascending."""
    mixable = set(_MIXABLE) if set(_MIXABLE) & set(capabilities.channels) else set()
    return sorted({*mixable, *capabilities.channels})


def list_server_features(capabilities: AudioCapabilities) -> list[AudioFeature]:
    """What the server adds to the engine's features; speech is no loop."""
    added = [AudioFeature.LOUDNESS]
    if not capabilities.prompt_decides_duration:
        added.append(AudioFeature.SEAMLESS_LOOP)
    return [feature for feature in added if feature not in capabilities.features]


def decide_layout(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    init_seconds: float | None = None,
) -> AudioLayout:
    """The layout of the audio; the recorder notes how each value was decided.

    Args:
        request: the task.
        capabilities: of the engine.
        recorder: gets the decisions.
        init_seconds: how long the initial audio is; None without any.

    Raises:
        InvalidRequestError: the format has no such sample rate or number of channels, or the audio is too short or too
            long for what is to be done with it.
    """
    form = AUDIO_FORMATS[request.format]
    rate, made_rate = _decide_rate(request, capabilities, recorder, form)
    channels, made_channels = _decide_channels(request, capabilities, recorder, form)
    crossfade = _find_crossfade(request, capabilities, init_seconds)
    seconds = _decide_duration(request, capabilities, recorder, crossfade, init_seconds)
    if request.seamless_loop:
        _record_loop(recorder, crossfade)
    known = None if capabilities.prompt_decides_duration else seconds
    lufs, own_lufs = _decide_loudness(request, capabilities, recorder, known)
    fades = _decide_fades(request, recorder, known)
    return AudioLayout(
        sample_rate=made_rate,
        channels=made_channels,
        duration_seconds=seconds + crossfade,
        seamless_loop=request.seamless_loop and not crossfade,
        loudness_lufs=own_lufs,
        finishing=Finishing(
            sample_rate=rate,
            channels=channels,
            seconds=known,
            crossfade_seconds=crossfade,
            loops=request.seamless_loop and not crossfade,
            high_pass_hz=_decide_high_pass(request, recorder),
            fade_in_seconds=fades[0],
            fade_out_seconds=fades[1],
            loudness_lufs=lufs,
        ),
    )


def _decide_rate(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    form: AudioFileFormat,
) -> tuple[int, int]:
    """The rate of the output, and the one that the engine makes."""
    own = capabilities.sample_rates
    if not request.HasField("sample_rate"):
        rate = nearest_rate(own[0], form.sample_rates)
        reason = "not given" if rate == own[0] else f"not given: {form.name} has no {own[0]} Hz"
        return recorder.apply_default("sample_rate", None, rate, reason), own[0]
    rate = request.sample_rate
    if form.sample_rates and rate not in form.sample_rates:
        allowed = ", ".join(map(str, form.sample_rates))
        raise _violation("sample_rate", f"must be one of {allowed} for {form.name}, not {rate}")
    if rate in own or rate not in OUTPUT_SAMPLE_RATES:  # validation refuses the latter
        return recorder.apply_default("sample_rate", rate, own[0]), rate
    made = nearest_rate(rate, own)
    recorder.emulate("sample_rate", rate, f"made at {made} Hz, and resampled")
    return rate, made


def _decide_channels(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    form: AudioFileFormat,
) -> tuple[int, int]:
    """The channels of the output, and those that the engine makes."""
    own = capabilities.channels
    channels = request.channels if request.HasField("channels") else None
    used = own[0] if channels is None else channels
    if used > form.max_channels:
        raise _violation(
            "channels", f"must be at most {form.max_channels} for {form.name}, not {used}"
        )
    if channels is None or channels in own or channels not in list_output_channels(capabilities):
        used = recorder.apply_default("channels", channels, own[0])
        return used, used
    made = next(count for count in own if count in _MIXABLE)
    how = "the mean of both channels" if made > channels else "the same in both channels"
    recorder.emulate("channels", channels, f"made with {made}: {how}")
    return channels, made


def _find_crossfade(
    request: pb.AudioTask, capabilities: AudioCapabilities, init_seconds: float | None
) -> float:
    """How many seconds more the engine makes for a loop that the server closes; 0 for none."""
    if not request.seamless_loop or AudioFeature.SEAMLESS_LOOP in capabilities.features:
        return 0.0
    if capabilities.prompt_decides_duration:
        raise _violation("seamless_loop", "what says the prompt does not loop: omit it")
    limits = capabilities.duration_seconds
    longest = capabilities.audible_seconds or limits.max
    if not request.HasField("duration"):
        known = limits.default if init_seconds is None else init_seconds
        return min(_CROSSFADE_SECONDS, max(min(known, longest), limits.min) * _MAX_CROSSFADE_SHARE)
    seconds = request.duration.ToMicroseconds() / 1e6
    room = longest - seconds
    wanted = min(_CROSSFADE_SECONDS, seconds * _MAX_CROSSFADE_SHARE)
    if room < min(wanted, _MIN_CROSSFADE_SECONDS):
        most = longest - _MIN_CROSSFADE_SECONDS
        message = f"must be at most {most:g} seconds for a seamless loop, not {seconds:g}"
        raise _violation("duration", message)
    return min(wanted, room)


def _decide_duration(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    crossfade: float,
    init_seconds: float | None,
) -> float:
    """Seconds of the output; the default where the prompt decides. The receipt says where a part of it is silence."""
    limits = capabilities.duration_seconds
    seconds = request.duration.ToMicroseconds() / 1e6 if request.HasField("duration") else None
    if capabilities.prompt_decides_duration:
        if seconds is not None:
            reason = "the prompt decides how long this engine's audio is"
            recorder.ignore("duration", seconds, reason)
        return limits.default
    longest = capabilities.audible_seconds or limits.max
    default, why = limits.default, "not given"
    if init_seconds is not None and request.continuation:
        default = min(init_seconds + limits.default, longest)
        why = f"not given: {init_seconds:.4g} s of init_audio, and {default - init_seconds:.4g} s more"
    elif init_seconds is not None:
        default, why = _choose_by_audio(init_seconds, longest - crossfade, limits.min)
    elif crossfade:
        default = min(default, longest - crossfade)
    used = default if seconds is None else seconds
    if not longest < used <= limits.max:
        return recorder.apply_default("duration", seconds, used, why)
    explanation = f"this model makes {longest:.3f} s of audio; silence follows, up to {used:g} s"
    if seconds is None:
        return recorder.apply_default("duration", None, used, explanation)
    recorder.record_clamped("duration", used, seconds, explanation)
    return used


def _choose_by_audio(init_seconds: float, longest: float, shortest: float) -> tuple[float, str]:
    """The duration of a task that gives none beside its initial audio, and why it is that."""
    if init_seconds > longest:
        why = (
            f"not given: init_audio has {init_seconds:.4g} s, and this engine makes {longest:.4g} s"
        )
        return longest, why
    if init_seconds < shortest:
        return shortest, "not given: the shortest that this engine makes, longer than init_audio"
    return init_seconds, "not given: that of init_audio"


def _record_loop(recorder: ParameterRecorder, crossfade: float) -> None:
    if crossfade:
        how = f"{crossfade:g} seconds more are made, and crossfaded into the beginning with equal power"
        recorder.emulate("seamless_loop", requested=True, explanation=how)
    else:
        recorder.apply_flag("seamless_loop")


def _decide_loudness(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    seconds: float | None,
) -> tuple[float | None, float | None]:
    """The loudness that the server makes, and the one that the engine makes."""
    if not request.HasField("loudness_lufs"):
        return None, None
    lufs = to_decimal(request.loudness_lufs)
    if AudioFeature.LOUDNESS in capabilities.features:
        return None, recorder.apply_default("loudness_lufs", lufs, lufs)
    if seconds is not None and seconds < MIN_LOUDNESS_SECONDS:
        message = f"needs at least {MIN_LOUDNESS_SECONDS:g} seconds of audio, not {seconds:g}"
        raise _violation("loudness_lufs", message)
    recorder.emulate("loudness_lufs", lufs, "measured and set by the server")
    return lufs, None


def _decide_fades(
    request: pb.AudioTask, recorder: ParameterRecorder, seconds: float | None
) -> tuple[float, float]:
    fades = []
    for name in ("fade_in", "fade_out"):
        given = getattr(request, name).ToMicroseconds() / 1e6
        if request.HasField(name):
            recorder.apply_default(name, given, given)
        fades.append(given)
    if seconds is not None and sum(fades) > seconds:
        message = f"fade_in and fade_out must be at most {seconds:g} seconds together, the duration"
        raise _violation("fade_out", message)
    return fades[0], fades[1]


def _decide_high_pass(request: pb.AudioTask, recorder: ParameterRecorder) -> float | None:
    if not request.HasField("high_pass_hz"):
        return None
    hertz = to_decimal(request.high_pass_hz)
    return recorder.apply_default("high_pass_hz", hertz, hertz)


def _violation(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError([Violation(f"audio.{field}", f"{field} {message}")])
