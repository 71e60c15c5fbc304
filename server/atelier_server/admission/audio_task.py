"""From the contract's audio task to the engine's."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import MAX_SEED, AudioCapabilities, AudioFeature
from atelier_engines.task import JSON, AudioTask
from atelier_server.admission.audio_finishing import decide_layout
from atelier_server.admission.parameters import NO_NEGATIVE_PROMPT, ParameterRecorder, to_decimal
from atelier_server.artifacts.audio.plan import Finishing


def resolve_audio_task(
    request: pb.AudioTask,
    capabilities: AudioCapabilities,
    recorder: ParameterRecorder,
    *,
    options: Mapping[str, JSON],
    random_seed: int,
) -> tuple[AudioTask, Finishing]:
    """The task with everything decided, and what the server does afterwards; the recorder notes how.

    Raises:
        InvalidRequestError: as `decide_layout`.
    """
    layout = decide_layout(request, capabilities, recorder)
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
        model=recorder.choose(
            "model", request.model, [model.name for model in capabilities.models]
        ),
        candidates=recorder.apply_default(
            "candidates", request.candidates if request.HasField("candidates") else None, 1
        ),
        seamless_loop=layout.seamless_loop,
        loudness_lufs=layout.loudness_lufs,
        reuse=seed is None,
        options=options,
    )
    return task, layout.finishing
