"""The capabilities of a speech engine."""

from __future__ import annotations

from collections.abc import Mapping

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    CancelSupport,
    Capabilities,
    Model,
    NumberRange,
    Reproducibility,
)
from atelier_engines.options import build_options_schema
from atelier_engines.speech.config import SpeechOptions

MODEL = "hibari-heart"
SAMPLE_RATE = 24000
_MAX_PROMPT_LENGTH = 2000
_MAX_SECONDS = 600.0
"""More than the longest prompt takes at the slowest pace."""


def build_capabilities(digest: str = "", versions: Mapping[str, str] | None = None) -> Capabilities:
    """The capabilities; digest and versions are known once the voice is loaded."""
    return Capabilities(
        description="English speech: says the words of the prompt",
        audio=AudioCapabilities(
            duration_seconds=NumberRange(min=0.1, max=_MAX_SECONDS, default=5.0),
            prompt_decides_duration=True,
            sample_rates=(SAMPLE_RATE,),
            channels=(1,),
            features=frozenset({AudioFeature.SEED, AudioFeature.SPEECH, AudioFeature.PREVIEW}),
            max_prompt_length=_MAX_PROMPT_LENGTH,
            models=(Model(name=MODEL, family="hibari", digest=digest, license="Apache-2.0"),),
        ),
        cancel=CancelSupport.STEP,
        reproducibility=Reproducibility.BIT_EXACT,
        options_schema=build_options_schema(SpeechOptions),
        versions=versions or {},
    )
