"""Facts about an audio model, and the capabilities of an engine that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    CancelSupport,
    Capabilities,
    IntegerRange,
    Model,
    NumberRange,
    Reproducibility,
)
from atelier_engines.options import NoOptions, build_options_schema

_FEATURES = frozenset(
    {
        AudioFeature.SEED,
        AudioFeature.NEGATIVE_PROMPT,
        AudioFeature.AUDIO_TO_AUDIO,
        AudioFeature.CONTINUATION,
        AudioFeature.PREVIEW,
    }
)
_MIN_SECONDS = 0.1
_DEFAULT_SECONDS = 10.0
_MAX_GUIDANCE = 30.0
_MAX_STEPS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioModelInfo:
    """Facts about a model that its engine's capabilities are built from."""

    model: Model
    """Name, family, digest and licence."""
    title: str
    """What it is called in descriptions."""
    sample_rate: int
    """Hertz."""
    channels: int = 2
    """Number of channels."""
    max_seconds: float
    """The longest duration that it was trained for."""
    audible_seconds: float
    """The longest audio that its latents hold."""
    steps: int
    """The default number of steps."""
    min_steps: int = 1
    """The smallest number of steps that it can do."""
    guidance: float
    """The default guidance."""
    max_prompt_length: int = 2000
    """Most characters of a prompt; how many tokens those are is counted when a task runs."""
    reproducibility: Reproducibility = Reproducibility.BEST_EFFORT
    """How reproducible results are on the device."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that affect the result."""


def name_model(source: str) -> str:
    """A model's name: its hub id, or the last part of its path."""
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else source


def build_capabilities(config: AudioModelConfig, info: AudioModelInfo) -> Capabilities:
    """The capabilities of an engine of that configuration and model."""
    steps = info.steps if config.steps is None else max(config.steps, info.min_steps)
    return Capabilities(
        description=f"Audio by {info.title}; weights: {info.model.license}",
        audio=AudioCapabilities(
            duration_seconds=NumberRange(
                min=_MIN_SECONDS,
                max=info.max_seconds,
                default=min(_DEFAULT_SECONDS, info.max_seconds),
            ),
            audible_seconds=info.audible_seconds,
            sample_rates=(info.sample_rate,),
            channels=(info.channels,),
            features=_FEATURES | ({AudioFeature.CANDIDATES} if config.prompt_match else set()),
            max_candidates=config.prompt_match.max_candidates if config.prompt_match else 1,
            steps=IntegerRange(min=info.min_steps, max=_MAX_STEPS, default=steps),
            guidance=NumberRange(
                min=0.0,
                max=_MAX_GUIDANCE,
                default=info.guidance if config.guidance is None else config.guidance,
            ),
            max_prompt_length=info.max_prompt_length,
            models=(info.model,),
        ),
        concurrency=config.concurrency,
        cancel=CancelSupport.STEP,
        reproducibility=info.reproducibility,
        options_schema=build_options_schema(NoOptions),
        versions=info.versions,
    )
