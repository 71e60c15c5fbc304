"""Checks the types of what tasks hold, where no type checker did; numbers and texts are checked as they are encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from atelier_client.enums import (
    AudioFormat,
    ControlType,
    FitMode,
    ImageFormat,
    LoraRole,
    ProtoEnum,
    ResourceProfile,
    SafetyMode,
)
from atelier_client.errors import invalid_value
from atelier_client.representation import describe_value
from atelier_client.tasks import AudioTask, Control, Embedding, ImageTask, Lora, Upscale

_IMAGE_ENUMS: Mapping[str, type[ProtoEnum]] = {
    "fit": FitMode,
    "resource_profile": ResourceProfile,
    "safety_mode": SafetyMode,
    "format": ImageFormat,
}
_LISTS: Mapping[str, type[Control | Lora | Embedding]] = {
    "controls": Control,
    "loras": Lora,
    "embeddings": Embedding,
}


def check_types(task: ImageTask | AudioTask) -> None:
    """Refuse a value of another type than its field.

    Raises:
        InvalidRequestError: with the name of the field.
    """
    for name, value, kind in _list_values(task):
        check_type(name, value, kind)


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse a value that is none of that type, for the field of that name.

    Raises:
        InvalidRequestError: with the name of the field.
    """
    if not isinstance(value, kind):
        told = f"{describe_value(value)} is no {kind.__name__}"
        if issubclass(kind, ProtoEnum):
            known = ", ".join(f"{kind.__name__}.{member.name}" for member in list(kind)[1:])
            told = f"{told}: give one of {known}"
        raise invalid_value(name, told)


def _list_values(task: ImageTask | AudioTask) -> Iterator[tuple[str, object, type]]:
    """Values with the names and the types of their fields, each list before what it holds."""
    if isinstance(task, AudioTask):
        yield "format", task.format, AudioFormat
        return
    for name, kind in _IMAGE_ENUMS.items():
        yield name, getattr(task, name), kind
    if task.upscale is not None:
        yield "upscale", task.upscale, Upscale
    for name, member in _LISTS.items():
        values = getattr(task, name)
        if not isinstance(values, list | tuple):
            yield name, values, tuple
        yield from ((name, value, member) for value in values)
    yield from (("controls.type", control.type, ControlType) for control in task.controls)
    yield from (("loras.role", lora.role, LoraRole) for lora in task.loras)
