"""Puts the prompts of a style preset of the server around those of a task, as the server's own page does.

Source: InvokeAI 6.14.2, frontend/web/src/features/stylePresets/hooks/usePresetModifiedPrompts.ts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from atelier_engines.errors import InvalidTaskError
from atelier_engines.options import parse_options
from atelier_engines.task import ImageTask
from atelier_engines.vendors.invokeai.config import InvokeAiOptions
from atelier_engines.vendors.invokeai.schemas import StylePreset

_PLACEHOLDER = "{prompt}"
_MAX_LISTED = 20


def apply_style_preset(task: ImageTask, presets: Mapping[str, StylePreset]) -> ImageTask:
    """The task with the prompts of the preset that its options name; the task itself if they name none.

    Raises:
        InvalidTaskError: the server has no such preset.
    """
    name = parse_options(task, InvokeAiOptions).style_preset
    if name is None:
        return task
    preset = presets.get(name)
    if preset is None:
        known = ", ".join(sorted(presets)[:_MAX_LISTED]) or "none"
        message = f"options.style_preset: the server has no style preset {name!r}; it has {known}"
        raise InvalidTaskError("options.style_preset", message)
    prompts = preset.preset_data
    return replace(
        task,
        prompt=_merge(prompts.positive_prompt, task.prompt),
        negative_prompt=_merge(prompts.negative_prompt, task.negative_prompt),
    )


def _merge(preset: str, prompt: str) -> str:
    if _PLACEHOLDER in preset:
        return preset.replace(_PLACEHOLDER, prompt, 1)
    return f"{prompt} {preset}".strip()
