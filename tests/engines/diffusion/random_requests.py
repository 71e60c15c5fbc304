"""Draws requests as a busy day brings them: all kinds, mistakes and people who leave among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from atelier_engines.capabilities import Capabilities, ImageFeature
from atelier_engines.errors import (
    EngineError,
    InvalidTaskError,
    OutOfMemoryError,
    UnsupportedError,
)
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType, ImageTask, Lora, ResourceProfile

ChoiceT = TypeVar("ChoiceT")

REFUSED_SIDE = 88
"""Pixels: squares of this side are those that there is to be no memory for."""

_SIDES = (64, 72, 96)
_GUIDANCES = (0.0, 1.0, 1.5, 5.0, 9.0)
_PROMPTS = (
    "a red apple",
    "blue",
    "a (red:1.4) house, [apple]",
    "",
    "a blue house behind a red apple " * 4,
)
_NEGATIVES = ("", "", "blue", "red, apple")
_BAD, _LEAVING, _TOO_LARGE = 0.1, 0.15, 0.04
"""Shares of all requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one caller wants, and what is to come of it."""

    task: ImageTask
    expected: type[EngineError] | None = None
    """What it fails with; None where the images come, as far as the caller waits for them."""
    leaves_after_events: int | None = None
    """The caller closes the stream then."""
    leaves_after_seconds: float | None = None
    """The caller is cancelled then, wherever things stand."""

    @property
    def stays(self) -> bool:
        """Whether the caller waits for the end."""
        return self.leaves_after_events is None and self.leaves_after_seconds is None


def draw(capabilities: Capabilities, *, count: int, seed: int) -> Sequence[Request]:
    """So many requests for an engine; equal ones for an equal seed."""
    mixture = _Mixture(capabilities, seed)
    return [mixture.request(index) for index in range(count)]


class _Mixture:
    def __init__(self, capabilities: Capabilities, seed: int) -> None:
        assert capabilities.image is not None
        self._can = capabilities.image
        self._random = np.random.default_rng(seed)

    def request(self, index: int) -> Request:
        """The next one."""
        task = self._task(index)
        if self._chance(_BAD):
            return self._spoiled(task)
        if self._chance(_TOO_LARGE):
            large = replace(task, width=REFUSED_SIDE, height=REFUSED_SIDE, init_image=None)
            large = replace(large, mask=None, controls=())
            return Request(task=large, expected=OutOfMemoryError)
        if not self._chance(_LEAVING):
            return Request(task=task)
        if self._chance(0.5):
            return Request(task=task, leaves_after_events=int(self._random.integers(1, 8)))
        return Request(task=task, leaves_after_seconds=float(self._random.uniform(0, 0.5)))

    def _task(self, index: int) -> ImageTask:
        """A good one."""
        width, height = self._one_of(_SIDES), self._one_of(_SIDES)
        pictured = self._chance(0.35)
        masked = pictured and self._chance(0.5)
        return ImageTask(
            prompt=self._one_of(_PROMPTS),
            negative_prompt=self._one_of(_NEGATIVES),
            width=width,
            height=height,
            seeds=tuple(10 * index + picture for picture in range(self._one_of((1, 1, 1, 2, 3)))),
            steps=int(self._random.integers(1, 7)),
            guidance=self._one_of(_GUIDANCES),
            scheduler=self._one_of(self._can.schedulers),
            init_image=self._photo(width, height) if pictured else None,
            strength=self._one_of((0.3, 0.6, 1.0)),
            mask=self._mask(width, height) if masked else None,
            controls=self._controls(width, height),
            loras=self._loras(),
            resource_profile=self._one_of((None, None, *ResourceProfile)),
            preview_interval=self._one_of((0, 0, 1, 2)),
        )

    def _spoiled(self, task: ImageTask) -> Request:
        """The task with a mistake."""
        ways: list[tuple[type[EngineError], Callable[[], ImageTask]]] = [
            (InvalidTaskError, lambda: replace(task, width=65)),
            (InvalidTaskError, lambda: replace(task, steps=0)),
            (InvalidTaskError, lambda: replace(task, scheduler="lcm", steps=51)),
            (InvalidTaskError, lambda: replace(task, guidance=1000.0)),
            (InvalidTaskError, lambda: replace(task, seeds=())),
            (UnsupportedError, lambda: replace(task, scheduler="plms")),
            (UnsupportedError, lambda: replace(task, loras=(Lora(name="nobody"),))),
            (UnsupportedError, lambda: replace(task, controls=(self._unknown_control(),))),
            (InvalidTaskError, lambda: replace(task, init_image=None, mask=self._mask(64, 64))),
        ]
        if self._can.max_loras > 1:
            twice = (Lora(name=self._can.loras[0], weight=0.5),) * 2
            ways.append((InvalidTaskError, lambda: replace(task, loras=twice)))
        expected, spoil = ways[int(self._random.integers(len(ways)))]
        return Request(task=spoil(), expected=expected)

    def _loras(self) -> tuple[Lora, ...]:
        if ImageFeature.LORA not in self._can.features or self._chance(0.6):
            return ()
        names = self._random.permutation(len(self._can.loras))
        count = min(int(self._random.integers(1, 3)), self._can.max_loras, len(names))
        return tuple(
            Lora(name=self._can.loras[name], weight=self._one_of((1.0, 0.5, -0.7, 0.0)))
            for name in names[:count]
        )

    def _controls(self, width: int, height: int) -> tuple[Control, ...]:
        if ImageFeature.CONTROLNET not in self._can.features or self._chance(0.6):
            return ()
        count = min(int(self._random.integers(1, 3)), self._can.max_controls)
        return tuple(self._control(width, height) for _ in range(count))

    def _control(self, width: int, height: int) -> Control:
        kind = self._one_of(self._can.control_types)
        computed = kind is ControlType.CANNY and self._chance(0.5)
        return Control(
            type=kind,
            image=self._photo(width, height),
            preprocess=computed and ImageFeature.CONTROL_PREPROCESSING in self._can.features,
            strength=self._one_of((0.0, 0.5, 1.0)),
            start=self._one_of((0.0, 0.0, 0.4)),
            end=self._one_of((1.0, 1.0, 0.7)),
        )

    def _unknown_control(self) -> Control:
        missing = next(kind for kind in ControlType if kind not in self._can.control_types)
        return Control(type=missing, image=self._photo(64, 64))

    def _photo(self, width: int, height: int) -> Pixels:
        """Noise of that size, or of another one, which is then brought to it."""
        if self._chance(0.3):
            width, height = width + 40, height + 8
        return Pixels(array=self._random.integers(0, 256, (height, width, 3), np.uint8))

    def _mask(self, width: int, height: int) -> Pixels:
        """A rectangle."""
        array = np.zeros((height, width, 1), np.uint8)
        top, left = self._random.integers(0, 40, 2)
        array[top : top + 32, left : left + 24] = 255
        return Pixels(array=array)

    def _chance(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def _one_of(self, choices: Sequence[ChoiceT]) -> ChoiceT:
        return choices[int(self._random.integers(len(choices)))]
