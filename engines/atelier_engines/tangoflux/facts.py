"""What is published about TangoFlux, and what a loaded model is described by.

Source: github.com/declare-lab/TangoFlux, tangoflux/model.py and README (2026-01); the licence is LICENSE.md of
the weights.
"""

from __future__ import annotations

from atelier_engines.audio_diffusion.info import AudioModelInfo, name_model
from atelier_engines.capabilities import Model
from atelier_engines.tangoflux.config import TangoFluxConfig

LICENSE = (
    "for research and other non-commercial use only, under the Stability AI Community License "
    "(powered by Stability AI)"
)
FAMILY = "tangoflux"
SAMPLE_RATE = 44100
MAX_SECONDS = 30.0
MAX_LATENTS = 645
HOP = 2048
_STEPS = 25
_GUIDANCE = 4.5


def describe_unloaded(config: TangoFluxConfig) -> AudioModelInfo:
    """What is known of the model before it is loaded; digest and versions are missing."""
    return AudioModelInfo(
        model=Model(name=name_model(config.model), family=FAMILY, license=LICENSE),
        title="TangoFlux",
        sample_rate=SAMPLE_RATE,
        max_seconds=MAX_SECONDS,
        audible_seconds=MAX_LATENTS * HOP / SAMPLE_RATE,
        steps=_STEPS,
        guidance=_GUIDANCE,
    )
