"""The section of a stable_audio_3 engine in the configuration file."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from atelier_engines.audio_diffusion.config import AudioModelConfig


class StableAudio3Config(AudioModelConfig):
    """Settings of one stable_audio_3 engine."""

    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(
        default="stabilityai/stable-audio-3-medium",
        min_length=1,
        description=(
            "The weights in diffusers' layout: a directory, such as diffusers' script "
            "`convert_stable_audio_3_to_diffusers.py` writes, or a Hugging Face hub id; `@` and a commit after it pin "
            "what is downloaded. The published ones are gated: accept their licence on the hub, and set `HF_TOKEN`."
        ),
    )

    @model_validator(mode="after")
    def _run_on_torch(self) -> Self:
        if self.runtime != "torch":
            raise ValueError(
                f"the networks of Stable Audio 3 do not run on {self.runtime}: omit runtime"
            )
        return self
