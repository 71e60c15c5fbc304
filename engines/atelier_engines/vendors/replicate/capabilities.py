"""Capabilities of a replicate engine, from the schema of its model."""

from __future__ import annotations

from dataclasses import replace

from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_engines.task import JSON, SafetyMode
from atelier_engines.vendors.capabilities import build_service_capabilities
from atelier_engines.vendors.replicate.config import ReplicateConfig, TaskField
from atelier_engines.vendors.replicate.fields import FieldMap
from atelier_engines.vendors.replicate.model_schema import ModelInput

_MAX_PROMPT_LENGTH = 8000
_MIN_SIDE = 64
_DEFAULT_SIDE = 1024
_MAX_STEPS = 100
_DEFAULT_STEPS = 28
_MAX_GUIDANCE = 30.0
_DEFAULT_GUIDANCE = 3.5
_SEEDS = 2**32
_FEATURES = {
    TaskField.INIT_IMAGE: ImageFeature.IMAGE_TO_IMAGE,
    TaskField.MASK: ImageFeature.INPAINTING,
    TaskField.NEGATIVE_PROMPT: ImageFeature.NEGATIVE_PROMPT,
    TaskField.SEED: ImageFeature.SEED,
}


def build_capabilities(
    config: ReplicateConfig, fields: FieldMap | None, version: str = ""
) -> Capabilities:
    """The capabilities of an engine with that configuration; without `fields`, those before the start."""
    width = _side(config, fields, TaskField.WIDTH)
    height = _side(config, fields, TaskField.HEIGHT)
    image = ImageCapabilities(
        width=width,
        height=height,
        max_pixels=width.max * height.max,
        max_images=config.max_images,
        max_prompt_length=_MAX_PROMPT_LENGTH,
        models=(Model(name=config.model, family=config.family),),
    )
    capabilities = build_service_capabilities(
        config, image, description=f"{config.model} at Replicate", cancellable=True
    )
    if fields is None:
        return capabilities
    return replace(
        capabilities,
        image=_add_fields(image, config, fields),
        options_schema=_options_schema(fields),
        versions={config.model: version} if version else {},
    )


def _add_fields(
    image: ImageCapabilities, config: ReplicateConfig, fields: FieldMap
) -> ImageCapabilities:
    features = {feature for field, feature in _FEATURES.items() if fields.get(field)}
    schedulers, seeds = _schedulers(fields), _seeds(fields.get(TaskField.SEED))
    if len(schedulers) > 1:
        features.add(ImageFeature.SCHEDULER)
    can_disable = config.safety == "off"
    return replace(
        image,
        features=frozenset(features),
        steps=_steps(fields.get(TaskField.STEPS)),
        guidance=_guidance(fields.get(TaskField.GUIDANCE)),
        schedulers=schedulers,
        safety_modes=(SafetyMode.BLOCK, SafetyMode.OFF)[: 1 + can_disable],
        min_seed=seeds.start,
        max_seed=seeds.stop - 1,
        ignores_strength=fields.get(TaskField.STRENGTH) is None,
    )


def _side(config: ReplicateConfig, fields: FieldMap | None, field: TaskField) -> IntegerRange:
    """Range of a side in pixels; any size is possible where the model has no such input, by scaling its image."""
    one = fields.get(field) if fields is not None and fields.takes_size else None
    if one is None:
        return _aligned(_MIN_SIDE, config.max_side, _DEFAULT_SIDE, config.size_multiple)
    if one.choices:
        return _one_of(one)
    return _aligned(
        int(max(one.minimum or _MIN_SIDE, 1)),
        int(one.maximum or config.max_side),
        _number(one.default, _DEFAULT_SIDE),
        one.multiple_of or config.size_multiple,
    )


def _aligned(low: int, high: int, default: float, multiple: int) -> IntegerRange:
    """The range of multiples; a range without any is that of all numbers."""
    least, most = -(-low // multiple) * multiple, high // multiple * multiple
    if most < least:
        return _aligned(low, high, default, 1)
    nearest = round(min(max(default, least), most) / multiple) * multiple
    return IntegerRange(
        min=least, max=most, default=min(max(nearest, least), most), multiple_of=multiple
    )


def _seeds(one: ModelInput | None) -> range:
    """Seeds that the model takes; at most 32 bits of them, which every model takes whose schema does not say."""
    low = max(int((one.minimum if one else 0) or 0), 0)
    if one is None or one.maximum is None:
        return range(low, low + _SEEDS)
    return range(low, min(max(int(one.maximum), low), low + _SEEDS - 1) + 1)


def _steps(one: ModelInput | None) -> IntegerRange | None:
    if one is None:
        return None
    if one.choices:
        return _one_of(one)
    low = max(int(one.minimum or 1), 1)
    high = max(int(one.maximum or _MAX_STEPS), low)
    return _aligned(low, high, _number(one.default, _DEFAULT_STEPS), 1)


def _guidance(one: ModelInput | None) -> NumberRange | None:
    if one is None:
        return None
    low = one.minimum or 0.0
    high = max(_MAX_GUIDANCE if one.maximum is None else one.maximum, low)
    default = _number(one.default, _DEFAULT_GUIDANCE)
    return NumberRange(min=low, max=high, default=min(max(default, low), high))


def _one_of(one: ModelInput) -> IntegerRange:
    values = sorted({int(choice) for choice in one.choices if isinstance(choice, int)})
    default = int(_number(one.default, values[0]))
    return IntegerRange(
        min=values[0],
        max=values[-1],
        default=default if default in values else values[0],
        allowed_values=tuple(values),
    )


def _schedulers(fields: FieldMap) -> tuple[str, ...]:
    one = fields.get(TaskField.SCHEDULER)
    if one is None:
        return ()
    names = [str(choice) for choice in one.choices]
    first = one.default if one.default in names else names[0]
    return (str(first), *(name for name in names if name != first))


def _options_schema(fields: FieldMap) -> dict[str, JSON]:
    return {
        "type": "object",
        "properties": {name: one.json_schema() for name, one in fields.free.items()},
        "required": sorted(fields.schema.required & fields.free.keys()),
        "additionalProperties": False,
    }


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
