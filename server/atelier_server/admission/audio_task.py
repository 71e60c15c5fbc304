"""From the contract's audio task to the engine's."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import MAX_SEED, AudioCapabilities, AudioFeature
from atelier_engines.media import Samples
from atelier_engines.task import JSON, AudioTask
from atelier_server.admission.audio_finishing import decide_layout
from atelier_server.admission.parameters import (
    NO_NEGATIVE_PROMPT,
    NO_PREVIEWS,
    ParameterRecorder,
    to_decimal,
)
from atelier_server.artifacts.audio.plan import Finishing

_DEFAULT_STRENGTH = 0.75


def resolve_audio_task(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    *,
    init_audio: Samples | None,
    options: Mapping[str, JSON],
    random_seed: int,
) -> tuple[AudioTask, Finishing]:
    """The task with everything decided, and what the server does afterwards; the recorder notes how.

    Raises:
        InvalidRequestError: as `decide_layout`.
    """
    length = None if init_audio is None else init_audio.seconds
    layout = decide_layout(request, capabilities, recorder, length)
    _record_init_audio(init_audio, layout.duration_seconds, request, recorder)
    steps = recorder.clamp(
        "steps", request.steps if request.HasField("steps") else None, capabilities.steps
    )
    guidance = to_decimal(request.guidance) if request.HasField("guidance") else None
    guidance = recorder.clamp("guidance", guidance, capabilities.guidance)
    seed = request.seed if request.HasField("seed") else None
    task = AudioTask(
        prompt=request.prompt,
        negative_prompt=recorder.choose_negative_prompt(
            request.negative_prompt,
            guidance,
            reason=""
            if AudioFeature.NEGATIVE_PROMPT in capabilities.features
            else NO_NEGATIVE_PROMPT,
        ),
        duration_seconds=layout.duration_seconds,
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seed=recorder.choose_seed(
            seed,
            random_seed,
            range(MAX_SEED + 1) if AudioFeature.SEED in capabilities.features else None,
        ),
        sample_rate=layout.sample_rate,
        channels=layout.channels,
        init_audio=init_audio,
        strength=_choose_strength(request, recorder),
        continuation=request.continuation,
        preview_interval=_choose_preview_interval(request, capabilities, recorder),
        model=recorder.choose(
            "model", request.model, [model.name for model in capabilities.models]
        ),
        candidates=recorder.apply_default(
            "candidates", request.candidates if request.HasField("candidates") else None, 1
        ),
        seamless_loop=layout.seamless_loop,
        loudness_lufs=layout.loudness_lufs,
        reuse=seed is None and init_audio is None,  # a clip of another beginning will not do
        options=options,
    )
    return task, layout.finishing


def _record_init_audio(
    audio: Samples | None, seconds: float, request: pb.AudioTask, recorder: ParameterRecorder
) -> None:
    """Note if the initial audio is continued, or else if a part of it is not used."""
    if request.continuation:
        recorder.apply_flag("continuation")
    elif audio is not None and audio.seconds > seconds:
        why = f"the first {seconds:.4g} s of its {audio.seconds:.4g} s are used: the duration"
        recorder.record_clamped("init_audio", seconds, audio.seconds, why)


def _choose_preview_interval(
    request: pb.AudioTask, capabilities: AudioCapabilities, recorder: ParameterRecorder
) -> int:
    if request.preview_interval and AudioFeature.PREVIEW not in capabilities.features:
        recorder.ignore("preview_interval", request.preview_interval, NO_PREVIEWS)
        return 0
    return request.preview_interval


def _choose_strength(request: pb.AudioTask, recorder: ParameterRecorder) -> float:
    strength = to_decimal(request.strength) if request.HasField("strength") else None
    if request.HasField("init_audio") and not request.continuation:
        return recorder.apply_default("strength", strength, _DEFAULT_STRENGTH)
    if strength is not None:
        why = "with continuation" if request.continuation else "without init_audio"
        recorder.ignore("strength", strength, f"it has no effect {why}")
    return _DEFAULT_STRENGTH
