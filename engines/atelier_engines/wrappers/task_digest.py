"""The digest of a task: equal for tasks with equal results."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from atelier_engines.capabilities import AudioFeature, Capabilities, ImageFeature, Model
from atelier_engines.media import Pixels, Samples
from atelier_engines.task import AudioTask, ImageTask, Task

_IGNORED_FIELDS = frozenset({"preview_interval", "batch", "resume"})
"""Fields of a task that change no pixel and no sample; every other field is part of the digest."""


def digest(task: Task, capabilities: Capabilities, engine: str) -> bytes:
    """SHA-256 over the task, including its images and audio, and over the engine with its models and versions.

    Seeds are included where they have an effect; elsewhere only their number. Takes about a millisecond for
    each million pixels of the task's images.
    """
    sink = hashlib.sha256()
    _feed(
        sink,
        (engine, capabilities.reproducibility, capabilities.versions, _models(task, capabilities)),
    )
    _feed(sink, type(task).__name__)
    for name, value in _digested_fields(task, seeded=_uses_seed(task, capabilities)):
        _feed(sink, name)
        _feed(sink, value)
    return sink.digest()


def input_bytes(task: Task) -> int:
    """Size of the images and the audio that `digest` reads, in bytes."""
    if isinstance(task, AudioTask):
        return 0 if task.init_audio is None else task.init_audio.array.nbytes
    images = [task.init_image, task.mask, *(control.image for control in task.controls)]
    return sum(image.array.nbytes for image in images if image is not None)


def _digested_fields(task: Task, *, seeded: bool) -> Iterator[tuple[str, object]]:
    for field in fields(task):
        value: object = getattr(task, field.name)
        if field.name in _IGNORED_FIELDS:
            continue
        if field.name in {"seed", "seeds"} and not seeded:
            value = len(value) if isinstance(value, tuple) else 1
        yield field.name, value


def _uses_seed(task: Task, capabilities: Capabilities) -> bool:
    if isinstance(task, ImageTask):
        return capabilities.image is None or ImageFeature.SEED in capabilities.image.features
    return capabilities.audio is None or AudioFeature.SEED in capabilities.audio.features


def _models(task: Task, capabilities: Capabilities) -> tuple[Model, ...]:
    side = capabilities.image if isinstance(task, ImageTask) else capabilities.audio
    return () if side is None else side.models


class _Sink(Protocol):
    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""


def _feed(sink: _Sink, value: object) -> None:
    """Add a value unambiguously: with its type and length before it."""
    match value:
        case None | bool() | int() | float() | str() | Enum():
            sink.update(_encode(value))
        case Pixels(array=array):
            sink.update(f"pixels {array.shape} {array.dtype};".encode())
            sink.update(np.ascontiguousarray(array).data.cast("B"))
        case Samples(array=array, sample_rate=rate):
            sink.update(f"samples {array.shape} {rate};".encode())
            sink.update(np.ascontiguousarray(array).data.cast("B"))
        case Mapping():
            sink.update(b"map %d;" % len(value))
            for key in sorted(value):
                _feed(sink, key)
                _feed(sink, value[key])
        case Sequence():
            sink.update(b"list %d;" % len(value))
            for item in value:
                _feed(sink, item)
        case _ if is_dataclass(value):
            sink.update(_encode(type(value).__name__))
            for field in fields(value):
                sink.update(_encode(field.name))
                _feed(sink, getattr(value, field.name))
        case _:
            msg = f"a task holds a {type(value).__name__}, which has no digest. This is a bug."
            raise TypeError(msg)


def _encode(value: float | str | Enum | None) -> bytes:
    match value:
        case float():
            return b"float " + struct.pack(">d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"str %d;" % len(text) + text
        case Enum():
            return f"enum {type(value).__name__}.{value.name};".encode()
        case _:
            return f"{value};".encode()
