"""Which input of a model takes which field of a task."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from atelier_engines.errors import ModelMissingError
from atelier_engines.vendors.replicate.config import ReplicateConfig, TaskField
from atelier_engines.vendors.replicate.model_schema import ModelInput, ModelSchema

USUAL_NAMES: Mapping[TaskField, tuple[str, ...]] = {
    TaskField.PROMPT: ("prompt",),
    TaskField.NEGATIVE_PROMPT: ("negative_prompt",),
    TaskField.WIDTH: ("width",),
    TaskField.HEIGHT: ("height",),
    TaskField.ASPECT_RATIO: ("aspect_ratio",),
    TaskField.SEED: ("seed",),
    TaskField.STEPS: ("num_inference_steps", "steps"),
    TaskField.GUIDANCE: ("guidance_scale", "guidance", "cfg_scale", "cfg"),
    TaskField.SCHEDULER: ("scheduler",),
    TaskField.INIT_IMAGE: ("image", "init_image", "input_image", "input_images", "image_input"),
    TaskField.STRENGTH: ("prompt_strength", "strength"),
    TaskField.MASK: ("mask", "mask_image"),
    TaskField.NUM_IMAGES: ("num_outputs", "num_images", "number_of_images"),
    TaskField.OUTPUT_FORMAT: ("output_format",),
    TaskField.SAFETY_OFF: ("disable_safety_checker",),
}
"""Names that models use, the first one that a model has counts."""

_FILES = frozenset({TaskField.INIT_IMAGE, TaskField.MASK})
_TYPES: Mapping[TaskField, tuple[str, ...]] = {
    TaskField.WIDTH: ("integer",),
    TaskField.HEIGHT: ("integer",),
    TaskField.SEED: ("integer",),
    TaskField.STEPS: ("integer",),
    TaskField.GUIDANCE: ("number", "integer"),
    TaskField.STRENGTH: ("number",),
    TaskField.NUM_IMAGES: ("integer",),
    TaskField.SAFETY_OFF: ("boolean",),
}
"""Types that an input must have; those of the others are `string`, and files may be in an array."""
_COMPOUND = frozenset({"array", "object"})
_RATIO = re.compile(r"(\d{1,3}):(\d{1,3})")
_CUSTOM = "custom"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMap:
    """The inputs of a model that a task decides."""

    schema: ModelSchema
    """Schema of the model."""
    by_field: Mapping[TaskField, ModelInput]
    """Inputs by what they take their value from; a field that no input takes is missing."""
    free: Mapping[str, ModelInput]
    """Inputs that callers may set as options, by name."""

    def get(self, field: TaskField) -> ModelInput | None:
        """The input that takes the field; None if there is none."""
        return self.by_field.get(field)

    @property
    def takes_size(self) -> bool:
        """Whether the model takes width and height in pixels."""
        return {TaskField.WIDTH, TaskField.HEIGHT} <= self.by_field.keys()

    @property
    def takes_custom_size(self) -> bool:
        """Whether width and height count only if the aspect ratio says so."""
        ratio = self.get(TaskField.ASPECT_RATIO)
        return self.takes_size and ratio is not None and _CUSTOM in ratio.choices

    def nearest_ratio(self, width: int, height: int) -> str:
        """The aspect ratio of the model that is most similar; empty where it has none."""
        ratio = self.get(TaskField.ASPECT_RATIO)
        choices = {} if ratio is None else dict(_read_ratios(ratio))

        def distance(name: str) -> float:
            return round(abs(math.log(choices[name] * height / width)), 9)

        return min(choices, key=distance, default="")


def map_fields(schema: ModelSchema, config: ReplicateConfig) -> FieldMap:
    """Find the inputs that a task decides, and check what the configuration says about the model.

    Raises:
        ModelMissingError: the model takes no prompt, or has no such input as the configuration names, or
            its input has another type or does not take the configured value.
    """
    found = {field: _find_input(schema, config, field) for field in TaskField}
    by_field = {field: one for field, one in found.items() if one is not None}
    for problem in _find_problems(schema, config, by_field):
        raise ModelMissingError(f"replicate's {config.model} {problem}")
    if TaskField.INIT_IMAGE not in by_field:
        by_field.pop(TaskField.MASK, None)
        by_field.pop(TaskField.STRENGTH, None)
    decided = {one.name for one in by_field.values()} | config.fixed_inputs.keys()
    free = {
        name: one
        for name, one in schema.inputs.items()
        if name not in decided and not (one.is_file or one.is_secret) and one.type not in _COMPOUND
    }
    return FieldMap(schema=schema, by_field=by_field, free=free)


def _find_input(
    schema: ModelSchema, config: ReplicateConfig, field: TaskField
) -> ModelInput | None:
    if field in config.fields:
        name = config.fields[field]
        return None if name is None else schema.inputs.get(name)
    names = (name for name in USUAL_NAMES[field] if name not in config.fixed_inputs)
    usual = (schema.inputs[name] for name in names if name in schema.inputs)
    return next((one for one in usual if _fits(one, field)), None)


def _fits(one: ModelInput, field: TaskField) -> bool:
    if field in _FILES:
        return one.is_file and one.type in {"string", "array"}
    if field is TaskField.ASPECT_RATIO:
        return any(True for _ in _read_ratios(one))
    if field is TaskField.SCHEDULER:
        return bool(one.choices) and all(isinstance(choice, str) for choice in one.choices)
    return one.type in _TYPES.get(field, ("string",)) and not one.is_file


def _find_problems(
    schema: ModelSchema, config: ReplicateConfig, by_field: Mapping[TaskField, ModelInput]
) -> Iterator[str]:
    """Sentences about the configuration, without their subject."""
    has = f"it has {', '.join(sorted(schema.inputs))}"
    for field, name in config.fields.items():
        if name is not None:
            yield from _find_field_problem(schema, config, field, name)
    for name, value in config.fixed_inputs.items():
        if name not in schema.inputs:
            yield f"has no input {name!r} (inputs.{name}); {has}"
        elif problem := schema.inputs[name].find_problem(value):
            yield f"does not take that value: inputs.{name} {problem}"
    if TaskField.PROMPT not in by_field:
        yield f"takes no prompt (fields.prompt can name the input); {has}"
    if config.safety == "off" and TaskField.SAFETY_OFF not in by_field:
        yield "has no input that disables its check (safety: off); set safety to block"
    if config.output_format is not None:
        yield from _find_format_problem(config.output_format, by_field)


def _find_field_problem(
    schema: ModelSchema, config: ReplicateConfig, field: TaskField, name: str
) -> Iterator[str]:
    if name not in schema.inputs:
        known = ", ".join(sorted(schema.inputs))
        yield f"has no input {name!r} (fields.{field.value}); it has {known}"
    elif name in config.fixed_inputs:
        yield f"takes {name!r} from fields.{field.value} and from inputs; remove one of them"
    elif not _fits(schema.inputs[name], field):
        yield f"cannot take {field.value} in its input {name!r} (fields.{field.value})"


def _find_format_problem(wanted: str, by_field: Mapping[TaskField, ModelInput]) -> Iterator[str]:
    one = by_field.get(TaskField.OUTPUT_FORMAT)
    if one is None:
        yield "has no input for the file format; remove output_format"
    elif problem := one.find_problem(wanted):
        yield f"does not take that value: output_format {problem}"


def _read_ratios(one: ModelInput) -> Iterator[tuple[str, float]]:
    for choice in one.choices:
        match = _RATIO.fullmatch(choice) if isinstance(choice, str) else None
        if match and int(match[1]) and int(match[2]):
            yield match[0], int(match[1]) / int(match[2])
