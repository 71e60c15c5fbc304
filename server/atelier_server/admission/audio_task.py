"""From the contract's audio task to the engine's."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import AudioCapabilities, AudioFeature
from atelier_engines.task import JSON, AudioTask
from atelier_server.admission.parameters import ParameterRecorder


def resolve_audio_task(
    asked: pb.AudioTask,
    can: AudioCapabilities,
    ledger: ParameterRecorder,
    *,
    options: Mapping[str, JSON],
    drawn_seed: int,
) -> AudioTask:
    """The task with everything decided; how goes into the ledger."""
    steps = ledger.clamp("steps", asked.steps if asked.HasField("steps") else None, can.steps)
    guidance = asked.guidance if asked.HasField("guidance") else None
    guidance = ledger.clamp("guidance", guidance, can.guidance)
    seconds = asked.duration.ToMicroseconds() / 1e6 if asked.HasField("duration") else None
    rate = asked.sample_rate if asked.HasField("sample_rate") else None
    channels = asked.channels if asked.HasField("channels") else None
    seed = asked.seed if asked.HasField("seed") else None
    return AudioTask(
        prompt=asked.prompt,
        negative_prompt=ledger.choose_negative_prompt(
            asked.negative_prompt, guidance, can=AudioFeature.NEGATIVE_PROMPT in can.features
        ),
        duration_seconds=ledger.apply_default("duration", seconds, can.duration_seconds.default),
        steps=None if steps is None else int(steps),
        guidance=guidance,
        seed=ledger.choose_seed(seed, drawn_seed, can=AudioFeature.SEED in can.features),
        sample_rate=ledger.apply_default("sample_rate", rate, can.sample_rates[0]),
        channels=ledger.apply_default("channels", channels, can.channels[0]),
        model=ledger.choose("model", asked.model, [model.name for model in can.models]),
        candidates=ledger.apply_default(
            "candidates", asked.candidates if asked.HasField("candidates") else None, 1
        ),
        seamless_loop=asked.seamless_loop,
        loudness_lufs=asked.loudness_lufs if asked.HasField("loudness_lufs") else None,
        options=options,
    )
