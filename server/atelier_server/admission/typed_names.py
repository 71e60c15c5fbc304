"""Reads what people type in prompts for other tools: `<lora:NAME:0.8>`, and `embedding:NAME` of what is not there.

A LoRA that the engine lists becomes one of the task's LoRAs, and its tag is taken out of the prompt. Everything else is
said in the receipt: an engine that reads such names gets the prompt without them, and any other gets it as it is.

Source: AUTOMATIC1111's stable-diffusion-webui, modules/extra_networks.py and extensions-builtin/Lora
(`<lora:NAME:TEXT_ENCODER:UNET>`, `te=`, `unet=`; `lyco` is another word for `lora`), and ComfyUI (`embedding:NAME`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_engines.prompt_names import find_names
from atelier_server.admission.parameters import ParameterRecorder

_TAG = re.compile(r"<(?P<kind>lora|lyco|hypernet):(?P<content>[^<>]+)>")
_EMBEDDING = re.compile(r"(?<![\w-])embedding:(?P<name>[^\s,;:|()\[\]<>]+)")
_MAX_WEIGHT = 4.0
"""As in the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lora:
    """A LoRA as typed."""

    name: str
    weight: float
    problem: str
    """What of the tag cannot be applied; empty where all of it can."""


def take_loras(
    request: pb.ImageTask, capabilities: ImageCapabilities, recorder: ParameterRecorder
) -> pb.ImageTask:
    """The request with the LoRAs that its prompt names, and without their tags; the recorder notes each."""
    task = pb.ImageTask()
    task.CopyFrom(request)
    for field in ("prompt", "negative_prompt"):
        reader = _TagReader(task, field, capabilities, recorder)
        setattr(task, field, _replace(_TAG, getattr(task, field), reader.read))
    return task


def drop_unknown_embeddings(
    text: str,
    field: str,
    readable: tuple[str, ...],
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> str:
    """A prompt without `embedding:NAME` of names that stand for nothing; as it is if the engine reads no names.

    Args:
        text: the prompt.
        field: its name in the task.
        readable: the names that stand for embeddings.
        capabilities: what the engine offers.
        recorder: notes what stands for nothing.
    """
    if capabilities.service_reads_embeddings:
        return text
    found = {place.start for place in find_names(text, readable)}

    def read(match: re.Match[str]) -> str:
        if match.start() in found:
            return match[0]
        return _ignore(
            match[0], field, f"there is no embedding {match['name']!r} here", capabilities, recorder
        )

    return _replace(_EMBEDDING, text, read)


class _TagReader:
    """Reads the tags of one prompt."""

    def __init__(
        self,
        task: pb.ImageTask,
        field: str,
        capabilities: ImageCapabilities,
        recorder: ParameterRecorder,
    ) -> None:
        self._task = task
        self._field = field
        self._capabilities = capabilities
        self._recorder = recorder

    def read(self, match: re.Match[str]) -> str:
        """What replaces a tag in the prompt: nothing, or the tag itself if the engine is to get it."""
        if match["kind"] == "hypernet":
            return self._ignore(match[0], "hypernetworks are not supported")
        lora = _parse(match["content"])
        if lora is None:
            return self._ignore(match[0], "its weight is no number")
        loras = self._capabilities.loras if ImageFeature.LORA in self._capabilities.features else ()
        name = next(
            (one for one in (lora.name, lora.name.removesuffix(".safetensors")) if one in loras),
            None,
        )
        if name is None:
            return self._ignore(match[0], f"there is no LoRA {lora.name!r} here")
        if self._field == "negative_prompt":
            self._recorder.ignore(self._field, match[0], "a LoRA has no place in a negative prompt")
            return ""
        self._add(match[0], name, lora)
        return ""

    def _add(self, tag: str, name: str, lora: _Lora) -> None:
        named = next((one for one in self._task.loras if one.name == name), None)
        if named is None:
            self._task.loras.add(name=name, weight=lora.weight)
            used = f"{name}:{lora.weight:g}"
            self._recorder.read_text("loras", tag, used, lora.problem)
        elif not named.HasField("weight") or abs(named.weight - lora.weight) > 1e-6:  # noqa: PLR2004 (float32)
            self._recorder.ignore(
                self._field, tag, f"the LoRA {name} is named before, with another weight"
            )

    def _ignore(self, tag: str, problem: str) -> str:
        return _ignore(tag, self._field, problem, self._capabilities, self._recorder)


def _ignore(
    text: str,
    field: str,
    problem: str,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> str:
    """Record a typed name without effect; the prompt has it still where the engine does not read such names."""
    if capabilities.typed_names:
        recorder.ignore(field, text, problem)
        return ""
    recorder.ignore(field, text, f"{problem}; the engine gets it as words")
    return text


def _replace(pattern: re.Pattern[str], text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """The text with all matches replaced; if that shortens it, without spaces at its ends."""
    made = pattern.sub(replace, text)
    return made if made == text else made.strip()


def _parse(content: str) -> _Lora | None:
    """What a tag says; None if a weight is no number."""
    name, *rest = (part.strip() for part in content.split(":"))
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    positional = [part for part in rest if "=" not in part]
    try:
        text = float(named.pop("te", positional[0] if positional else 1.0))
        unet = float(named.pop("unet", positional[1] if len(positional) > 1 else text))
    except ValueError:
        return None
    if not (abs(text) < float("inf") and abs(unet) < float("inf")):
        return None
    weight = min(max(unet, -_MAX_WEIGHT), _MAX_WEIGHT)
    problems = []
    if text != unet:
        problems.append("one weight holds for text encoders and denoiser")
    if weight != unet:
        problems.append(f"weights are {-_MAX_WEIGHT:g} to {_MAX_WEIGHT:g}")
    if named or len(positional) > 2:  # noqa: PLR2004 (two weights)
        problems.append("it can say no more than weights")
    return _Lora(name=name, weight=weight, problem="; ".join(problems))
