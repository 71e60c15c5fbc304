"""What is published about Stable Audio 3, and what a loaded model is described by.

Source: diffusers 0.42.1, StableAudio3Pipeline and its parts; README of github.com/Stability-AI/stable-audio-3.
"""

from __future__ import annotations

from atelier_engines.audio_diffusion.info import AudioModelInfo, name_model
from atelier_engines.capabilities import Model
from atelier_engines.stable_audio_3.config import StableAudio3Config

LICENSE = (
    "Stability AI Community License (powered by Stability AI): commercial use only below a revenue of 1 million US "
    "dollars a year, and after registration; and the Gemma Terms of Use for its text encoder"
)
FAMILY = "stable_audio_3"
STEPS, BASE_STEPS = 8, 100
"""Of the distilled model, and of the one that it was distilled from."""
_SAMPLE_RATE = 44100
_SECONDS = 384.0
_GUIDANCE = 1.0
"""The distilled model needs none."""


def describe_unloaded(config: StableAudio3Config) -> AudioModelInfo:
    """What is known of the model before it is loaded; digest and versions are missing."""
    return AudioModelInfo(
        model=Model(name=name_model(config.model), family=FAMILY, license=LICENSE),
        title="Stable Audio 3",
        sample_rate=_SAMPLE_RATE,
        max_seconds=_SECONDS,
        audible_seconds=_SECONDS,
        steps=STEPS,
        guidance=_GUIDANCE,
    )
