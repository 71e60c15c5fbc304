"""Concept LoRAs: applied because of words in the prompt, as the operator configures it."""

from __future__ import annotations

import re

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import ConceptLoraSettings, LoraSettings


def add_concept_loras(
    task: pb.ImageTask,
    settings: LoraSettings,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> None:
    """Add the LoRAs whose words are in the prompt, and note it; those that the task names stay as they are.

    On an engine that takes LoRAs the recorder also notes what it does not have, or has no room for.
    """
    if ImageFeature.LORA not in capabilities.features:
        return
    for words, concept in settings.concepts.items():
        named = {lora.name for lora in task.loras}
        if concept.name in named or not _has_words(task.prompt, words):
            continue
        problem = _find_problem(concept, len(task.loras), capabilities)
        if problem:
            recorder.leave_out("loras", f"the prompt has {words!r}, but {problem}")
        else:
            task.loras.add(name=concept.name, weight=concept.weight)
            used = f"{concept.name}:{concept.weight:g}"
            recorder.choose("loras", "", (used,), explanation=f"the prompt has {words!r}")


def _find_problem(concept: ConceptLoraSettings, count: int, capabilities: ImageCapabilities) -> str:
    """Why the engine cannot apply it; empty if it can."""
    if concept.name not in capabilities.loras:
        return f"this engine has no LoRA {concept.name}"
    if count >= capabilities.max_loras:
        return f"this engine takes {capabilities.max_loras} LoRAs, without {concept.name}"
    return ""


def _has_words(prompt: str, words: str) -> bool:
    """Whether the words stand in the prompt, whole and in this order, in upper or lower case."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    return re.search(rf"(?<!\w){pattern}(?!\w)", prompt, re.IGNORECASE) is not None
