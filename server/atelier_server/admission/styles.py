"""Styles: words, LoRAs and defaults that a task takes on by naming one."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier_server.config.settings import LoraRole, StyleSettings
from atelier_server.errors import InvalidRequestError, Violation

_ROLES = {
    LoraRole.STYLE: pb.LORA_ROLE_STYLE,
    LoraRole.CHARACTER: pb.LORA_ROLE_CHARACTER,
    LoraRole.CINEMATIC: pb.LORA_ROLE_CINEMATIC,
}


_NO_STYLE = StyleSettings()


def get_style(request: pb.ImageTask, styles: Mapping[str, StyleSettings]) -> StyleSettings:
    """The style that the task names; one that changes nothing when it names none.

    Raises:
        InvalidRequestError: there is no such style; names those there are.
    """
    if not request.style:
        return _NO_STYLE
    style = styles.get(request.style)
    if style is None:
        known = f"there are {', '.join(styles)}" if styles else "none is configured"
        raise InvalidRequestError(
            [Violation("image.style", f"no style {request.style!r}; {known}")]
        )
    return style


def apply_style(request: pb.ImageTask, styles: Mapping[str, StyleSettings]) -> pb.ImageTask:
    """A copy of the task with the words and LoRAs of its style. What the caller says of a LoRA wins.

    Raises:
        InvalidRequestError: there is no such style.
    """
    style = get_style(request, styles)
    task = pb.ImageTask()
    task.CopyFrom(request)
    task.prompt = f"{style.prompt_prefix}{request.prompt}{style.prompt_suffix}"
    task.negative_prompt = ", ".join(filter(None, (request.negative_prompt, style.negative_prompt)))
    named = {lora.name for lora in request.loras}
    task.loras.extend(
        pb.Lora(name=lora.name, weight=lora.weight, role=_ROLES[lora.role])
        for lora in style.loras
        if lora.name not in named
    )
    return task
