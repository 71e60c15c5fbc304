"""Finds the names of embeddings in prompts; the same for the engine and for whatever decides a task."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePlace:
    """Where a prompt has the name of an embedding."""

    name: str
    """The name."""
    start: int
    """Index of the first character of what stands for the embedding."""
    end: int
    """Index behind its last character."""


def find_names(text: str, names: Collection[str]) -> tuple[NamePlace, ...]:
    """The places of these names in a prompt, from left to right.

    A name is found as a word of its own, in the same case, and the longest one where several begin. It may be written
    as `embedding:NAME`, with the suffix of a file too, and as `<NAME>`.

    Source: AUTOMATIC1111's stable-diffusion-webui (the bare name), ComfyUI (`embedding:NAME`), InvokeAI and diffusers
    (`<NAME>`).
    """
    if not names or not text:
        return ()
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = (
        rf"<(?P<angled>{known})>"
        rf"|(?<![\w-])embedding:(?P<marked>{known})(?:\.(?:safetensors|pt|bin))?(?![\w-])"
        rf"|(?<![\w-])(?P<bare>{known})(?![\w-])"
    )
    return tuple(
        NamePlace(
            name=found["angled"] or found["marked"] or found["bare"],
            start=found.start(),
            end=found.end(),
        )
        for found in re.finditer(pattern, text)
    )
