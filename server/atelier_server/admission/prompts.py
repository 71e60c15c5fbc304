"""Decides the prompts of a task, and the textual inversion embeddings that it uses: requested, or typed in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_engines.prompt_names import list_names
from atelier_engines.task import Lora
from atelier_server.admission.parameters import NO_NEGATIVE_PROMPT, ParameterRecorder
from atelier_server.admission.typed_names import drop_unknown_embeddings
from atelier_server.admission.vocabulary import note_unknown_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of a task as its engine gets them."""

    prompt: str
    negative_prompt: str
    """Empty where it has no effect."""
    embeddings: tuple[str, ...] = ()
    """Names in them that stand for embeddings."""


def decide_prompts(
    request: pb.ImageTask,
    loras: Sequence[Lora],
    guidance: float | None,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> Prompts:
    """The prompts of a task and the embeddings that they use; the recorder notes how they were decided.

    Args:
        request: the task as requested, with the style's texts.
        loras: the LoRAs of the task, which may bring embeddings along.
        guidance: as decided; without it a negative prompt has no effect.
        capabilities: what the engine offers.
        recorder: notes the decisions.
    """
    placed = _place_embeddings(request, loras, capabilities, recorder)
    negative_prompt = recorder.choose_negative_prompt(
        placed.negative_prompt,
        guidance,
        reason=_find_reason(request, capabilities),
    )
    prompts = replace(placed, negative_prompt=negative_prompt)
    used = _choose_embeddings(request, prompts, loras, capabilities, recorder)
    note_unknown_words(prompts.prompt, used, capabilities, recorder)
    return replace(prompts, embeddings=used)


def _find_reason(request: pb.ImageTask, capabilities: ImageCapabilities) -> str:
    """Why a negative prompt has no effect on the engine; empty where it has one."""
    if ImageFeature.NEGATIVE_PROMPT not in capabilities.features:
        return NO_NEGATIVE_PROMPT
    if request.HasField("mask") and capabilities.inpainting_ignores_negative_prompt:
        return f"{NO_NEGATIVE_PROMPT} together with a mask"
    return ""


def _place_embeddings(
    request: pb.ImageTask,
    loras: Sequence[Lora],
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> Prompts:
    """The prompts of the request, with the names of the embeddings that it lists and they lack."""
    prompt, negative = request.prompt, request.negative_prompt
    names = (*_list_requested(request), *_list_typed(loras, capabilities))
    if not capabilities.upscale_only:
        prompt = drop_unknown_embeddings(prompt, "prompt", names, capabilities, recorder)
        negative = drop_unknown_embeddings(
            negative, "negative_prompt", names, capabilities, recorder
        )
    for embedding in request.embeddings:
        if embedding.negative:
            negative = _add(negative, embedding.name, names)
        else:
            prompt = _add(prompt, embedding.name, names)
    return Prompts(prompt=prompt, negative_prompt=negative)


def _choose_embeddings(
    request: pb.ImageTask,
    prompts: Prompts,
    loras: Sequence[Lora],
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> tuple[str, ...]:
    """The names of the embeddings that the task uses; the recorder notes each, and those that it does not use."""
    requested = _list_requested(request)
    names = (*requested, *_list_typed(loras, capabilities))
    used = list_names(names, (prompts.prompt, prompts.negative_prompt))
    for name in used:
        recorder.apply("embeddings", name)
    for name in requested:
        if name not in used:
            recorder.ignore("embeddings", name, "the negative prompt has no effect here")
    for name, lora in _list_brought(loras, capabilities).items():
        if name not in used:
            recorder.leave_out(
                "embeddings", f"the LoRA {lora} brings the embedding {name}, and no prompt names it"
            )
    return used


def _list_requested(request: pb.ImageTask) -> tuple[str, ...]:
    return tuple(dict.fromkeys(embedding.name for embedding in request.embeddings))


def _list_typed(loras: Sequence[Lora], capabilities: ImageCapabilities) -> tuple[str, ...]:
    """The names that stand for embeddings wherever a prompt has them."""
    if not capabilities.typed_names:
        return ()
    return (*capabilities.embeddings, *_list_brought(loras, capabilities))


def _list_brought(loras: Sequence[Lora], capabilities: ImageCapabilities) -> Mapping[str, str]:
    """The LoRA that brings each embedding along, by the embedding's name; one without weight brings none."""
    return {
        name: lora.name
        for lora in loras
        if lora.weight
        for name in capabilities.lora_embeddings.get(lora.name, ())
    }


def _add(text: str, name: str, names: Sequence[str]) -> str:
    """The text, with the name at its end if it lacks it; a longer one of the names may hold it as a word."""
    if name in list_names(names, (text,)):
        return text
    return f"{text}, embedding:{name}" if text else f"embedding:{name}"
