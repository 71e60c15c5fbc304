"""From the contract's audio task to the engine's."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import MAX_SEED, AudioCapabilities, AudioFeature
from atelier_engines.task import JSON, AudioTask
from atelier_server.admission.parameters import NO_NEGATIVE_PROMPT, ParameterRecorder, to_decimal


def resolve_audio_task(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    *,
    options: Mapping[str, JSON],
    random_seed: int,
) -> AudioTask:
    """The task with everything decided; the recorder notes how."""
    steps = recorder.clamp(
        "steps", request.steps if request.HasField("steps") else None, capabilities.steps
    )
    guidance = to_decimal(request.guidance) if request.HasField("guidance") else None
    guidance = recorder.clamp("guidance", guidance, capabilities.guidance)
    seconds = request.duration.ToMicroseconds() / 1e6 if request.HasField("duration") else None
    rate = request.sample_rate if request.HasField("sample_rate") else None
    channels = request.channels if request.HasField("channels") else None
    seed = request.seed if request.HasField("seed") else None
    return AudioTask(
        prompt=request.prompt,
        negative_prompt=recorder.choose_negative_prompt(
            request.negative_prompt,
            guidance,
            reason=""
            if AudioFeature.NEGATIVE_PROMPT in capabilities.features
            else NO_NEGATIVE_PROMPT,
        ),
        duration_seconds=_choose_duration(seconds, capabilities, recorder),
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seed=recorder.choose_seed(
            seed,
            random_seed,
            range(MAX_SEED + 1) if AudioFeature.SEED in capabilities.features else None,
        ),
        sample_rate=recorder.apply_default("sample_rate", rate, capabilities.sample_rates[0]),
        channels=recorder.apply_default("channels", channels, capabilities.channels[0]),
        model=recorder.choose(
            "model", request.model, [model.name for model in capabilities.models]
        ),
        candidates=recorder.apply_default(
            "candidates", request.candidates if request.HasField("candidates") else None, 1
        ),
        seamless_loop=request.seamless_loop,
        loudness_lufs=to_decimal(request.loudness_lufs)
        if request.HasField("loudness_lufs")
        else None,
        options=options,
    )


def _choose_duration(
    requested: float | None, capabilities: AudioCapabilities, recorder: ParameterRecorder
) -> float:
    """The seconds that were asked for, else the default; the default where the prompt decides.

    The receipt says where a part of it will be silence.
    """
    limits, longest = capabilities.duration_seconds, capabilities.audible_seconds
    if capabilities.prompt_decides_duration:
        if requested is not None:
            recorder.ignore(
                "duration", requested, "the prompt decides how long this engine's audio is"
            )
        return limits.default
    seconds = limits.default if requested is None else requested
    if longest is None or not longest < seconds <= limits.max:
        return recorder.apply_default("duration", requested, seconds)
    explanation = f"this model makes {longest:.3f} s of audio; silence follows, up to {seconds:g} s"
    if requested is None:
        return recorder.apply_default("duration", None, seconds, explanation)
    recorder.record_clamped("duration", seconds, seconds, explanation)
    return seconds
