"""Metadata that a file carries about how it was made: the final task, the model and the versions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from atelier.v1.generation_pb2 import Recipe
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.task import JSON, AudioTask, Control, ImageTask, Task
from atelier_server.config.settings import StyleSettings

_HASH_LENGTH = 10
_MARK = re.compile(r"(Negative prompt|\nSteps)(?=:)")
"""Where tools split the text, if it occurs in a prompt."""
_EMPTY: tuple[JSON, ...] = (None, "", [], {})  # not 0, which is a valid guidance and strength


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The metadata in two forms. Neither holds a time, a caller or an id: equal tasks give equal files."""

    parameters: str
    """Text that people and Stable Diffusion tools read: prompt, negative prompt, settings; of audio the prompt."""
    record: str
    """One JSON object, for programs."""
    engine: str = ""
    """Name of the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleName:
    """The style that a request names."""

    id: str
    title: str


def find_style_name(
    request: GenerateRequest, styles: Mapping[str, StyleSettings]
) -> StyleName | None:
    """The style of the request; None if it names none."""
    style = request.image.style
    title = styles[style].title if style in styles else ""
    return StyleName(id=style, title=title) if style else None


def build_provenance(
    engine: str, recipe: Recipe, task: Task, seed: int, style: StyleName | None = None
) -> Provenance:
    """The metadata of the output with that seed.

    It leaves out what does not belong to this output alone (id, time, caller, the other seeds of the task), what
    may be confidential (the engine's own options), and the input images and audio.
    """
    if isinstance(task, ImageTask):
        parameters = _build_parameters(engine, recipe, task, seed)
        record = _build_record(engine, recipe, task, seed, style)
    else:
        parameters, record = task.prompt, _build_audio_record(engine, recipe, task, seed)
    return Provenance(
        parameters=parameters,
        record=json.dumps(record, ensure_ascii=False, separators=(",", ":")),
        engine=engine,
    )


def _build_record(
    engine: str, recipe: Recipe, task: ImageTask, seed: int, style: StyleName | None
) -> dict[str, JSON]:
    """The fields by their names in the contract; empty ones are left out, except the prompts."""
    optional: dict[str, JSON] = {
        "style_id": None if style is None else style.id,
        "style_title": None if style is None else style.title,
        "steps": task.steps,
        "guidance": _round(task.guidance),
        "scheduler": task.scheduler,
        "clip_skip": task.clip_skip,
        "loras": [{"name": lora.name, "weight": _round(lora.weight)} for lora in task.loras],
        "embeddings": list(task.embeddings),
        "strength": None if task.init_image is None else _round(task.strength),
        "masked": None if task.mask is None else True,
        "controls": [_describe_control(control) for control in task.controls],
        "upscale": None
        if task.upscale is None
        else {"factor": _round(task.upscale.factor), "model": task.upscale.model},
        **_describe_recipe(recipe),
    }
    return {
        "engine": engine,
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "seed": seed,
        "width": task.width,
        "height": task.height,
        **_leave_out_empty(optional),
    }


def _build_audio_record(engine: str, recipe: Recipe, task: AudioTask, seed: int) -> dict[str, JSON]:
    """As `_build_record`; what the server did with the samples afterwards is heard, and not part of it.

    Nor is how many candidates there were: this one's seed alone makes the clip again.
    """
    optional: dict[str, JSON] = {
        "negative_prompt": task.negative_prompt,
        "steps": task.steps,
        "guidance": _round(task.guidance),
        "strength": None if task.init_audio is None or task.continuation else _round(task.strength),
        "continuation": task.continuation or None,
        "seamless_loop": task.seamless_loop or None,
        **_describe_recipe(recipe),
    }
    return {
        "engine": engine,
        "prompt": task.prompt,
        "seed": seed,
        "duration": _round(task.duration_seconds),
        **_leave_out_empty(optional),
    }


def _describe_recipe(recipe: Recipe) -> dict[str, JSON]:
    return {
        "engine_type": recipe.engine_type,
        "model": recipe.model,
        "weights_digest": recipe.weights_digest,
        "versions": dict(sorted(recipe.versions.items())),
    }


def _leave_out_empty(record: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in record.items() if value not in _EMPTY}


def _describe_control(control: Control) -> JSON:
    return {
        "type": control.type.value,
        "preprocess": control.preprocess,
        "strength": _round(control.strength),
        "start": _round(control.start),
        "end": _round(control.end),
    }


def _build_parameters(engine: str, recipe: Recipe, task: ImageTask, seed: int) -> str:
    """The text that Stable Diffusion tools read: prompt, negative prompt, and one line of settings.

    Source: AUTOMATIC1111/stable-diffusion-webui 0365002, modules/infotext_utils.py, quote and
    parse_generation_parameters (which takes the last line for settings when it has three or more). Other tools search
    the whole text for marks of this structure, so those in a prompt get a space; the record has the very words.
    """
    settings = {
        "Steps": task.steps,
        "Sampler": task.scheduler,
        "CFG scale": _round(task.guidance),
        "Seed": seed,
        "Size": f"{task.width}x{task.height}",
        "Model hash": recipe.weights_digest[:_HASH_LENGTH],
        "Model": recipe.model,
        "Clip skip": task.clip_skip,
        "Denoising strength": None if task.init_image is None else _round(task.strength),
        "Engine": engine,
    }
    loras = "".join(f" <lora:{lora.name}:{_round(lora.weight)}>" for lora in task.loras)
    lines = [_space_marks(task.prompt) + loras]
    if task.negative_prompt:
        lines.append(f"Negative prompt: {_space_marks(task.negative_prompt)}")
    parts = [
        f"{name}: {_quote(str(value))}" for name, value in settings.items() if value not in _EMPTY
    ]
    return "\n".join([*lines, ", ".join(parts)])


def _space_marks(prompt: str) -> str:
    return _MARK.sub(r"\1 ", prompt)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if set(",:\n") & set(text) else text


def _round(value: float | None) -> float | int | None:
    """The value with seven significant digits, which is what the contract's 32-bit floats hold."""
    if value is None:
        return None
    rounded = float(f"{value:.7g}")
    return int(rounded) if rounded.is_integer() else rounded
