"""What a picture's file is to say of its making: the task as it was done, and with what."""

from __future__ import annotations

import json

from atelier.v1.generation_pb2 import Recipe
from atelier_engines.task import JSON, Control, ImageTask, Task
from atelier_server.artifacts.provenance import Provenance

_SHORT_HASH = 10
_NOTHING: tuple[JSON, ...] = (None, "", [], {})  # 0 is something: a guidance, a strength


def provenance_of(engine: str, recipe: Recipe, task: Task, seed: int) -> Provenance | None:
    """For the output with that seed; None for sounds.

    It leaves out what is not of the picture alone (id, time, caller, the other seeds of its task), what may be
    confidential (the engine's own options), and the pictures that went in.
    """
    if not isinstance(task, ImageTask):
        return None
    record = _record(engine, recipe, task, seed)
    return Provenance(
        parameters=_parameters(engine, recipe, task, seed),
        record=json.dumps(record, ensure_ascii=False, separators=(",", ":")),
    )


def _record(engine: str, recipe: Recipe, task: ImageTask, seed: int) -> dict[str, JSON]:
    """By the contract's names; what is empty is left out, but for the words."""
    chosen: dict[str, JSON] = {
        "steps": task.steps,
        "guidance": _short(task.guidance),
        "scheduler": task.scheduler,
        "loras": [{"name": lora.name, "weight": _short(lora.weight)} for lora in task.loras],
        "strength": None if task.init_image is None else _short(task.strength),
        "masked": None if task.mask is None else True,
        "controls": [_control(control) for control in task.controls],
        "upscale": None
        if task.upscale is None
        else {"factor": _short(task.upscale.factor), "model": task.upscale.model},
        "engine_type": recipe.engine_type,
        "model": recipe.model,
        "weights_digest": recipe.weights_digest,
        "versions": dict(sorted(recipe.versions.items())),
    }
    return {
        "engine": engine,
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "seed": seed,
        "width": task.width,
        "height": task.height,
        **{name: value for name, value in chosen.items() if value not in _NOTHING},
    }


def _control(control: Control) -> JSON:
    return {
        "type": control.type.value,
        "preprocess": control.preprocess,
        "strength": _short(control.strength),
        "start": _short(control.start),
        "end": _short(control.end),
    }


def _parameters(engine: str, recipe: Recipe, task: ImageTask, seed: int) -> str:
    """The text that Stable Diffusion's tools know: words, words to avoid, and a line of settings.

    Source: AUTOMATIC1111/stable-diffusion-webui 0365002, modules/infotext_utils.py, quote and
    parse_generation_parameters (which takes the last line for settings when it has three or more).
    """
    settings = {
        "Steps": task.steps,
        "Sampler": task.scheduler,
        "CFG scale": _short(task.guidance),
        "Seed": seed,
        "Size": f"{task.width}x{task.height}",
        "Model hash": recipe.weights_digest[:_SHORT_HASH],
        "Model": recipe.model,
        "Denoising strength": None if task.init_image is None else _short(task.strength),
        "Engine": engine,
    }
    loras = "".join(f" <lora:{lora.name}:{_short(lora.weight)}>" for lora in task.loras)
    lines = [task.prompt + loras]
    if task.negative_prompt:
        lines.append(f"Negative prompt: {task.negative_prompt}")
    said = [
        f"{name}: {_quoted(str(value))}"
        for name, value in settings.items()
        if value not in _NOTHING
    ]
    return "\n".join([*lines, ", ".join(said)])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if set(",:\n") & set(text) else text


def _short(value: float | None) -> float | int | None:
    """As a person would write it: the contract's floats carry seven digits."""
    if value is None:
        return None
    short = float(f"{value:.7g}")
    return int(short) if short.is_integer() else short
