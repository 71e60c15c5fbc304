"""The section of a stable_audio engine in the configuration file."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from atelier_engines.audio_diffusion.config import AudioModelConfig


class StableAudioConfig(AudioModelConfig):
    """Settings of one stable_audio engine."""

    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(
        default="stabilityai/stable-audio-open-1.0",
        min_length=1,
        description=(
            "The weights: a directory in diffusers' layout, or a Hugging Face hub id; `@` and a commit after it pin "
            "what is downloaded. The published ones are gated: accept their licence on the hub, and set `HF_TOKEN`."
        ),
    )
