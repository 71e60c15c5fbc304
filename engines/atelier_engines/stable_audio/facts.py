"""What is published about Stable Audio Open 1.0, and what a loaded model is described by.

Source: the card and LICENSE.md of stabilityai/stable-audio-open-1.0; diffusers 0.42.1, StableAudioPipeline.__call__.
"""

from __future__ import annotations

from atelier_engines.audio_diffusion.info import AudioModelInfo, name_model
from atelier_engines.capabilities import Model
from atelier_engines.stable_audio.config import StableAudioConfig

LICENSE = (
    "Stability AI Community License (powered by Stability AI): commercial use only below a revenue of 1 million US "
    "dollars a year, and after registration"
)
FAMILY = "stable_audio"
_SAMPLE_RATE = 44100
_SECONDS = 1024 * 2048 / _SAMPLE_RATE
_STEPS = 100
_GUIDANCE = 7.0
_MIN_STEPS = 2
"""The noise schedule of one step would begin at its end."""


def describe_unloaded(config: StableAudioConfig) -> AudioModelInfo:
    """What is known of the model before it is loaded; digest and versions are missing."""
    return AudioModelInfo(
        model=Model(name=name_model(config.model), family=FAMILY, license=LICENSE),
        title="Stable Audio Open",
        sample_rate=_SAMPLE_RATE,
        max_seconds=_SECONDS,
        audible_seconds=_SECONDS,
        steps=_STEPS,
        min_steps=_MIN_STEPS,
        guidance=_GUIDANCE,
    )
