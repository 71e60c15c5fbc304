"""Styles: prompt texts, LoRAs and defaults that are applied to a task which names one."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier_engines.suggestions import suggest
from atelier_server.config.settings import LoraRole, StyleSettings
from atelier_server.errors import InvalidRequestError, Violation

_ROLES = {
    LoraRole.STYLE: pb.LORA_ROLE_STYLE,
    LoraRole.CHARACTER: pb.LORA_ROLE_CHARACTER,
    LoraRole.CINEMATIC: pb.LORA_ROLE_CINEMATIC,
}


def apply_style(
    request: pb.ImageTask, styles: Mapping[str, StyleSettings]
) -> tuple[StyleSettings, pb.ImageTask]:
    """The style that the task names, and a copy of the task with its prompt texts.

    Raises:
        InvalidRequestError: no such style; names those there are.
    """
    style = styles.get(request.style)
    if style is None:
        known = f"there are {', '.join(styles)}" if styles else "none is configured"
        violation = Violation(
            "image.style", f"no style {request.style!r}; {known}{suggest(request.style, styles)}"
        )
        raise InvalidRequestError([violation])
    task = pb.ImageTask()
    task.CopyFrom(request)
    task.prompt = f"{style.prompt_prefix}{request.prompt}{style.prompt_suffix}"
    task.negative_prompt = ", ".join(filter(None, (request.negative_prompt, style.negative_prompt)))
    return style, task


def add_style_loras(task: pb.ImageTask, style: StyleSettings) -> None:
    """Add the style's LoRAs to the task; one that the task names keeps its weight and role there."""
    named = {lora.name for lora in task.loras}
    task.loras.extend(
        pb.Lora(name=lora.name, weight=lora.weight, role=_ROLES[lora.role])
        for lora in style.loras
        if lora.name not in named
    )
