"""Finds what in an engine's capabilities contradicts itself."""

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


def contradictions(can: Capabilities) -> Iterator[str]:
    """One sentence for each contradiction; nothing for sound capabilities."""
    if can.image is None and can.audio is None:
        yield "it makes neither pictures nor sounds"
    if can.image is not None:
        yield from _of_pictures(can.image)
    if can.audio is not None:
        yield from _of_sounds(can.audio)
    if can.concurrency < 1:
        yield "concurrency is less than 1"
    if not can.description.strip() or "\n" in can.description:
        yield "description is not one line"
    if can.price is not None and not (0 <= can.price.amount < math.inf):
        yield "price is no amount of money"
    yield from _of_options(can)


def _of_pictures(can: ImageCapabilities) -> Iterator[str]:
    yield from _of_integers("width", can.width)
    yield from _of_integers("height", can.height)
    yield from _of_shared(can)
    if can.width.min < 1 or can.height.min < 1:
        yield "a picture could have no pixels"
    if can.width.default * can.height.default > can.max_pixels:
        yield "the default size has more than max_pixels"
    if can.max_images < 1:
        yield "max_images is less than 1"
    claims = {
        ImageFeature.SCHEDULER: len(can.schedulers) > 1,
        ImageFeature.CONTROLNET: can.max_controls > 0 and bool(can.control_types),
        ImageFeature.LORA: can.max_loras > 0,
        ImageFeature.UPSCALING: bool(can.upscalers),
    }
    for feature, backed in claims.items():
        if (feature in can.features) != backed:
            yield f"{feature.name} and the limits that belong to it contradict each other"
    if ImageFeature.CONTROL_PREPROCESSING in can.features and (
        ImageFeature.CONTROLNET not in can.features
    ):
        yield "CONTROL_PREPROCESSING needs CONTROLNET"
    if can.upscale_only and not (
        {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.UPSCALING} <= can.features
    ):
        yield "upscale_only needs IMAGE_TO_IMAGE and UPSCALING"
    if can.default_preview_interval and ImageFeature.PREVIEW not in can.features:
        yield "preview_interval needs PREVIEW"


def _of_sounds(can: AudioCapabilities) -> Iterator[str]:
    yield from _of_numbers("duration_seconds", can.duration_seconds)
    yield from _of_shared(can)
    if can.duration_seconds.min <= 0:
        yield "a sound could have no length"
    if not can.sample_rates or min(can.sample_rates) < 1:
        yield "sample_rates is empty or holds nonsense"
    if not can.channels or min(can.channels) < 1:
        yield "channels is empty or holds nonsense"
    if (AudioFeature.CANDIDATES in can.features) != (can.max_candidates > 1):
        yield "CANDIDATES and max_candidates contradict each other"


def _of_shared(can: ImageCapabilities | AudioCapabilities) -> Iterator[str]:
    if can.steps is not None:
        yield from _of_integers("steps", can.steps)
        if can.steps.min < 1:
            yield "steps could be none"
    if can.guidance is not None:
        yield from _of_numbers("guidance", can.guidance)
    if can.max_prompt_length < 1:
        yield "no prompt is short enough"
    names = [model.name for model in can.models]
    if len(set(names)) < len(names) or "" in names:
        yield "models are not told apart by their names"


def _of_integers(name: str, allowed: IntegerRange) -> Iterator[str]:
    if not allowed.min <= allowed.default <= allowed.max:
        yield f"the default of {name} lies outside its range"
    if allowed.multiple_of < 1:
        yield f"{name} is a multiple of less than 1"
    elif any(value % allowed.multiple_of for value in (allowed.min, allowed.max, allowed.default)):
        yield f"{name} has limits or a default off its own grid"
    if allowed.allowed_values and (
        list(allowed.allowed_values) != sorted(set(allowed.allowed_values))
        or (allowed.allowed_values[0], allowed.allowed_values[-1]) != (allowed.min, allowed.max)
        or allowed.default not in allowed.allowed_values
    ):
        yield f"{name} has choices that are unordered, or do not fit its limits or its default"


def _of_numbers(name: str, allowed: NumberRange) -> Iterator[str]:
    if not -math.inf < allowed.min <= allowed.default <= allowed.max < math.inf:
        yield f"the default of {name} lies outside its range, or the range has no end"


def _of_options(can: Capabilities) -> Iterator[str]:
    schema = can.options_schema
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError):
        yield "options_schema is not JSON"
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        yield "options_schema lets unknown options pass"
