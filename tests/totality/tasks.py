"""Tasks in which every field says something, and capabilities that allow them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_engines.conformance.tasks import random_audio, random_image
from atelier_engines.media import Pixels
from atelier_engines.task import (
    JSON,
    AudioTask,
    Control,
    ControlType,
    Fit,
    ImageTask,
    Lora,
    ResourceProfile,
    SafetyMode,
    Upscale,
)

OPTIONS: Mapping[str, JSON] = {"mood": {"dark": True, "levels": [1, 0.5, "x", None]}}

IMAGE = ImageTask(
    prompt="a lamp, embedding:cloth",
    negative_prompt="fog, embedding:rust",
    width=64,
    height=48,
    seeds=(2**63 - 2, 2**63 - 1),
    steps=9,
    guidance=3.5,
    model="second",
    scheduler="heun",
    init_image=random_image(40, 30, 1),
    strength=0.25,
    mask=Pixels(array=random_image(40, 30, 3).array[:, :, :1].copy()),
    controls=tuple(
        Control(
            type=kind,
            image=random_image(32, 24, seed),
            preprocess=True,
            strength=0.5,
            start=0.125,
            end=0.75,
        )
        for seed, kind in enumerate(ControlType)
    ),
    loras=(Lora(name="ink", weight=-0.5), Lora(name="clay", weight=0.25)),
    embeddings=("cloth", "rust"),
    fit=Fit.STRETCH,
    upscale=Upscale(factor=2.5, model="x4"),
    resource_profile=ResourceProfile.MEMORY,
    safety_mode=SafetyMode.FLAG,
    preview_interval=3,
    clip_skip=2,
    options=OPTIONS,
    batch=True,
)
_SOUND = AudioTask(
    prompt="rain",
    negative_prompt="wind",
    duration_seconds=1.5,
    seed=2**63 - 1,
    sample_rate=44100,
    channels=2,
    steps=9,
    guidance=3.5,
    model="second",
    candidates=3,
    seamless_loop=True,
    loudness_lufs=-16.5,
    preview_interval=2,
    options=OPTIONS,
    batch=True,
)
AUDIO = replace(_SOUND, init_audio=random_audio(_SOUND, 1, share=0.25), strength=0.25)
CONTINUED = replace(AUDIO, seamless_loop=False, continuation=True, strength=0.75)
"""Which begins with its audio, and so is no loop, and has no strength."""

_SIDE = IntegerRange(min=16, max=512, default=128, multiple_of=8)
_STEPS = IntegerRange(min=1, max=50, default=20)
_GUIDANCE = NumberRange(min=0.0, max=20.0, default=7.0)
_MODELS = (Model(name="first"), Model(name="second"))
PERMISSIVE = Capabilities(
    description="Does all that a task can ask for",
    image=ImageCapabilities(
        width=_SIDE,
        height=_SIDE,
        max_pixels=512 * 512,
        features=frozenset(ImageFeature),
        steps=_STEPS,
        guidance=_GUIDANCE,
        clip_skip=IntegerRange(min=1, max=12, default=1),
        max_images=4,
        schedulers=("euler", "heun"),
        control_types=tuple(ControlType),
        max_controls=8,
        models=_MODELS,
        loras=("ink", "clay"),
        max_loras=4,
        embeddings=("cloth", "rust"),
        resource_profiles=tuple(ResourceProfile),
        safety_modes=tuple(SafetyMode),
        upscalers=("x2", "x4"),
    ),
    audio=AudioCapabilities(
        duration_seconds=NumberRange(min=0.5, max=10.0, default=5.0),
        sample_rates=(16000, 44100),
        channels=(1, 2),
        features=frozenset(AudioFeature),
        steps=_STEPS,
        guidance=_GUIDANCE,
        max_candidates=4,
        models=_MODELS,
    ),
    options_schema={"type": "object", "properties": {"mood": {"type": "object"}}},
)
