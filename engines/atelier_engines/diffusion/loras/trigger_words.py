"""Reads from a LoRA's file the words that call up what it was trained on.

Sources: `modelspec.trigger_phrase`, https://github.com/Stability-AI/ModelSpec; `ss_tag_frequency` and
`ss_dataset_dirs`, which kohya's sd-scripts write, https://github.com/kohya-ss/sd-scripts (both 2026-11).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

_MAX_WORDS = 12
_MAX_LENGTH = 100
"""Of one word or phrase in characters; what is longer is a caption."""


def read_trigger_words(path: Path) -> tuple[str, ...]:
    """The trigger phrase of the file, else the tags that most images of a training folder have; or none."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):  # whoever loads it tells
        return ()
    phrase = _clean(metadata.get("modelspec.trigger_phrase"))
    if phrase:
        return (phrase,)
    tags = dict.fromkeys(_list_common_tags(metadata))
    return tuple(tags)[:_MAX_WORDS]


def _list_common_tags(metadata: Mapping[str, str]) -> Iterator[str]:
    """The tags of each folder that more than half of its images have, the most frequent first."""
    folders = _parse(metadata.get("ss_dataset_dirs"))
    for name, counts in _parse(metadata.get("ss_tag_frequency")).items():
        if not isinstance(counts, dict):
            continue
        numbers = {tag: count for tag, count in counts.items() if isinstance(count, int)}
        images = _get_count(folders.get(name)) or max(numbers.values(), default=0)
        for tag in sorted(numbers, key=lambda tag: -numbers[tag]):
            if 2 * numbers[tag] > images and (word := _clean(tag)):
                yield word


def _get_count(folder: object) -> int:
    """The images in a folder; 0 where that is not known."""
    count = folder.get("img_count") if isinstance(folder, dict) else None
    return count if isinstance(count, int) else 0


def _parse(text: str | None) -> Mapping[str, object]:
    try:
        parsed = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _clean(text: str | None) -> str:
    """The text in one line; nothing where it is too long for a word or a phrase."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return line if len(line) <= _MAX_LENGTH else ""
