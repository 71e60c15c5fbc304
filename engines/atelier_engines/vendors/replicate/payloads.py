"""The input of a prediction, from a task and the schema of its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import JSON, ImageTask, SafetyMode
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover
from atelier_engines.vendors.replicate.config import ReplicateConfig, TaskField
from atelier_engines.vendors.replicate.fields import FieldMap

_FORMATS = ("png", "webp", "jpg", "jpeg")
"""File formats, the best one first."""

ImageUrls = Mapping[TaskField, str]
"""URLs of the images that a prediction takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionInput:
    """Builds the input of the predictions of one task."""

    task: ImageTask
    """Task to run."""
    config: ReplicateConfig
    """Configuration of the engine."""
    fields: FieldMap
    """Inputs of the model."""

    def encode_images(self) -> dict[TaskField, bytes]:
        """PNG files of the task's images in its size; blocks."""
        task, files = self.task, {}
        if task.init_image is not None:
            resized = resize_to_cover(task.init_image, task.width, task.height)
            files[TaskField.INIT_IMAGE] = encode_png(resized)
        if task.mask is not None:
            mask = resize_mask_to_cover(task.mask, task.width, task.height)
            files[TaskField.MASK] = encode_png(mask)
        return files

    def build(self, seed: int, urls: ImageUrls) -> dict[str, JSON]:
        """The input of the prediction for one seed.

        Raises:
            InvalidTaskError: an option does not fit the model, or the task lacks what the model requires.
        """
        values: dict[str, JSON] = dict(self.config.fixed_inputs)
        for field, value in self._values(seed, urls):
            one = self.fields.get(field)
            if one is not None:
                values[one.name] = one.convert(value)
        values |= self._options()
        self._require_complete(values)
        return values

    def _values(self, seed: int, urls: ImageUrls) -> Iterator[tuple[TaskField, JSON]]:
        task = self.task
        yield TaskField.PROMPT, task.prompt
        yield TaskField.NUM_IMAGES, 1
        yield from self._size()
        yield from self._set_values()
        yield TaskField.SEED, seed
        for field, url in urls.items():
            one = self.fields.get(field)
            yield field, [url] if one is not None and one.type == "array" else url
        if task.init_image is not None:
            yield TaskField.STRENGTH, task.strength
        if (task.safety_mode or SafetyMode(self.config.safety)) is SafetyMode.OFF:
            yield TaskField.SAFETY_OFF, True

    def _set_values(self) -> Iterator[tuple[TaskField, JSON]]:
        """Values that may be unset."""
        task = self.task
        values: tuple[tuple[TaskField, JSON], ...] = (
            (TaskField.NEGATIVE_PROMPT, task.negative_prompt),
            (TaskField.STEPS, task.steps),
            (TaskField.GUIDANCE, task.guidance),
            (TaskField.SCHEDULER, task.scheduler),
            (TaskField.OUTPUT_FORMAT, self._format()),
        )
        for field, value in values:
            if value not in (None, ""):
                yield field, value

    def _size(self) -> Iterator[tuple[TaskField, JSON]]:
        """Width and height, or the most similar aspect ratio of a model that takes no pixels."""
        if self.fields.takes_size:
            yield TaskField.WIDTH, self.task.width
            yield TaskField.HEIGHT, self.task.height
        if self.fields.takes_custom_size:
            yield TaskField.ASPECT_RATIO, "custom"
        elif not self.fields.takes_size:
            ratio = self.fields.nearest_ratio(self.task.width, self.task.height)
            if ratio:
                yield TaskField.ASPECT_RATIO, ratio

    def _format(self) -> str | None:
        """The configured file format, else the best one that the model lists."""
        one = self.fields.get(TaskField.OUTPUT_FORMAT)
        if one is None or self.config.output_format is not None:
            return self.config.output_format
        return next((name for name in _FORMATS if name in one.choices), None)

    def _options(self) -> Iterator[tuple[str, JSON]]:
        for name, value in self.task.options.items():
            one = self.fields.free.get(name)
            problem = "is unknown" if one is None else one.find_problem(value)
            if one is None or problem:
                raise InvalidTaskError(f"options.{name}", f"options.{name} {problem}")
            yield name, one.convert(value)

    def _require_complete(self, values: Mapping[str, JSON]) -> None:
        for name in sorted(self.fields.schema.required - values.keys()):
            field = next(
                (field.value for field, one in self.fields.by_field.items() if one.name == name),
                f"options.{name}",
            )
            raise InvalidTaskError(field, f"{self.config.model} requires {field}; set it")
