"""What a network's graph looks like from outside, the same for everything that exports or runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

MODULE = "module."
"""The names of weights in graphs begin so where LoRAs change them: their wrappers have the network as `module`."""

_DYNAMIC = torch.export.Dim.DYNAMIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis of a tensor whose length differs from call to call."""

    name: str
    """What it counts; axes of one name have lengths in a fixed ratio."""
    least: int
    """The shortest length of the tensors that have a factor and a divisor of 1."""
    most: int
    """The longest, likewise."""
    example: int
    """The length that the graph is exported at, likewise."""
    factor: int = 1
    """This tensor has so many for each one of those."""
    divisor: int = 1
    """This tensor has one for so many of those, rounded up."""

    def scale(self, length: int) -> int:
        """The length of this axis where that of a factor and divisor of 1 is `length`."""
        return -(-length * self.factor // self.divisor)


ROWS = Axis(name="rows", least=1, most=32, example=3)
HEIGHT = Axis(name="height", least=8, most=256, example=9)
"""In latent pixels. Exported at odd lengths: only then does the denoiser upsample to the size of what it
concatenates, which is right for even lengths too. At even ones it doubles, which is wrong for odd ones."""
WIDTH = Axis(name="width", least=8, most=256, example=11)
"""As HEIGHT."""
TOKENS = Axis(name="tokens", least=77, most=616, example=154)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInput:
    """One input tensor."""

    name: str
    """Its name in the graph."""
    shape: tuple[int | Axis, ...]
    """Its axes; numbers are fixed lengths."""
    dtype: torch.dtype
    """Its type."""
    highest: int = 0
    """Its numbers are between 0 and this; 0 where they are distributed about 0."""

    def lengths(self, by_axis: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape where the axes of these names have these lengths."""
        return tuple(
            one.scale(by_axis[one.name]) if isinstance(one, Axis) else one for one in self.shape
        )

    def example(self) -> torch.Tensor:
        """Zeros of the shape that the graph is exported at."""
        lengths = [one.scale(one.example) if isinstance(one, Axis) else one for one in self.shape]
        return torch.zeros(lengths, dtype=self.dtype)

    def dynamic_axes(self) -> Mapping[int, Any]:
        """What marks axes of any length for torch, by their places."""
        return {place: _DYNAMIC for place, one in enumerate(self.shape) if isinstance(one, Axis)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The specification of one network: everything that exports or runs it reads it here."""

    name: str
    """Its name in messages and keys."""
    inputs: tuple[GraphInput, ...]
    """Its inputs, in the order of the wrapper's arguments."""
    outputs: tuple[str, ...]
    """The names of its outputs."""
    wrap: Callable[[torch.nn.Module], torch.nn.Module]
    """Returns a module that takes the inputs by position and returns the outputs."""

    def input(self, name: str) -> GraphInput:
        """The input of that name.

        Raises:
            KeyError: there is none.
        """
        return {one.name: one for one in self.inputs}[name]


def image_axes(*, factor: int = 1, divisor: int = 1) -> tuple[Axis, Axis]:
    """Height and width of a tensor with that many pixels for a latent pixel."""
    return (
        replace(HEIGHT, factor=factor, divisor=divisor),
        replace(WIDTH, factor=factor, divisor=divisor),
    )
