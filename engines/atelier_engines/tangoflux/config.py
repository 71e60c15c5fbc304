"""The section of a tangoflux engine in the configuration file."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from atelier_engines.audio_diffusion.config import AudioModelConfig


class TangoFluxConfig(AudioModelConfig):
    """Settings of one tangoflux engine."""

    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(
        default="declare-lab/TangoFlux",
        min_length=1,
        description=(
            "The weights as they are published: a directory with `config.json`, `tangoflux.safetensors` and "
            "`vae.safetensors`, or a Hugging Face hub id; `@` and a commit after it pin what is downloaded."
        ),
    )
    text_encoder: str = Field(
        default="google/flan-t5-large",
        min_length=1,
        description=(
            "Where configuration and tokenizer of the text encoder are: a directory or a hub id. Its weights are in "
            "`model`, and are neither needed nor downloaded here."
        ),
    )
