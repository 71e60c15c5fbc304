"""Finds contradictions in an engine's capabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    NumberRange,
)


def contradictions(capabilities: Capabilities) -> Iterator[str]:
    """A sentence for each contradiction; none for consistent capabilities."""
    if capabilities.image is None and capabilities.audio is None:
        yield "it supports neither image nor audio tasks"
    if capabilities.image is not None:
        yield from _check_image(capabilities.image)
    if capabilities.audio is not None:
        yield from _check_audio(capabilities.audio)
    if capabilities.concurrency < 1:
        yield "concurrency is less than 1"
    if not capabilities.description.strip() or "\n" in capabilities.description:
        yield "description is not one line"
    if capabilities.price is not None and not (0 <= capabilities.price.amount < math.inf):
        yield "price is not a finite amount"
    yield from _check_options(capabilities)


def _check_image(capabilities: ImageCapabilities) -> Iterator[str]:
    yield from _check_integers("width", capabilities.width)
    yield from _check_integers("height", capabilities.height)
    yield from _check_shared(capabilities)
    if capabilities.width.min < 1 or capabilities.height.min < 1:
        yield "an image could have no pixels"
    if capabilities.width.default * capabilities.height.default > capabilities.max_pixels:
        yield "the default size has more than max_pixels"
    if capabilities.max_images < 1:
        yield "max_images is less than 1"
    claims = {
        ImageFeature.SCHEDULER: len(capabilities.schedulers) > 1,
        ImageFeature.CONTROLNET: capabilities.max_controls > 0 and bool(capabilities.control_types),
        ImageFeature.LORA: capabilities.max_loras > 0,
        ImageFeature.EMBEDDING: bool(capabilities.embeddings or capabilities.lora_embeddings),
        ImageFeature.UPSCALING: bool(capabilities.upscalers),
    }
    for feature, backed in claims.items():
        if (feature in capabilities.features) != backed:
            yield f"{feature.name} and the limits that belong to it contradict each other"
    if ImageFeature.CONTROL_PREPROCESSING in capabilities.features and (
        ImageFeature.CONTROLNET not in capabilities.features
    ):
        yield "CONTROL_PREPROCESSING needs CONTROLNET"
    if capabilities.upscale_only and not (
        {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.UPSCALING} <= capabilities.features
    ):
        yield "upscale_only needs IMAGE_TO_IMAGE and UPSCALING"
    if capabilities.default_preview_interval and ImageFeature.PREVIEW not in capabilities.features:
        yield "preview_interval needs PREVIEW"


def _check_audio(capabilities: AudioCapabilities) -> Iterator[str]:
    yield from _check_numbers("duration_seconds", capabilities.duration_seconds)
    yield from _check_shared(capabilities)
    if capabilities.duration_seconds.min <= 0:
        yield "audio could have no length"
    if not capabilities.sample_rates or min(capabilities.sample_rates) < 1:
        yield "sample_rates is empty or contains a number less than 1"
    if not capabilities.channels or min(capabilities.channels) < 1:
        yield "channels is empty or contains a number less than 1"
    if (AudioFeature.CANDIDATES in capabilities.features) != (capabilities.max_candidates > 1):
        yield "CANDIDATES and max_candidates contradict each other"


def _check_shared(capabilities: ImageCapabilities | AudioCapabilities) -> Iterator[str]:
    if capabilities.steps is not None:
        yield from _check_integers("steps", capabilities.steps)
        if capabilities.steps.min < 1:
            yield "steps could be 0"
    if isinstance(capabilities, ImageCapabilities) and capabilities.clip_skip is not None:
        yield from _check_integers("clip_skip", capabilities.clip_skip)
    if capabilities.guidance is not None:
        yield from _check_numbers("guidance", capabilities.guidance)
    if capabilities.max_prompt_length < 1:
        yield "max_prompt_length is less than 1"
    names = [model.name for model in capabilities.models]
    if len(set(names)) < len(names) or "" in names:
        yield "the names of models are not unique"


def _check_integers(name: str, allowed: IntegerRange) -> Iterator[str]:
    if not allowed.min <= allowed.default <= allowed.max:
        yield f"the default of {name} is outside its range"
    if allowed.multiple_of < 1:
        yield f"{name} is a multiple of less than 1"
    elif any(value % allowed.multiple_of for value in (allowed.min, allowed.max, allowed.default)):
        yield f"{name} has limits or a default that are not multiples of multiple_of"
    if allowed.allowed_values and (
        list(allowed.allowed_values) != sorted(set(allowed.allowed_values))
        or (allowed.allowed_values[0], allowed.allowed_values[-1]) != (allowed.min, allowed.max)
        or allowed.default not in allowed.allowed_values
    ):
        yield f"{name} has allowed_values that are unordered, or contradict its limits or default"


def _check_numbers(name: str, allowed: NumberRange) -> Iterator[str]:
    if not -math.inf < allowed.min <= allowed.default <= allowed.max < math.inf:
        yield f"the default of {name} is outside its range, or the range is infinite"


def _check_options(capabilities: Capabilities) -> Iterator[str]:
    schema = capabilities.options_schema
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError):
        yield "options_schema is not valid JSON"
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        yield "options_schema allows unknown options"
