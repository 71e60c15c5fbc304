"""The shapes that a plan is built for: one optimization profile for each range of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from atelier_engines.diffusion.runtimes.graphs.graph import HEIGHT, ROWS, TOKENS, WIDTH, Graph

Lengths = Mapping[str, int]
"""Lengths by the names of axes, of tensors with a factor and a divisor of 1."""

Shape = tuple[int, ...]

_BUCKET_TOKENS = 2 * TOKENS.least
"""Prompts of up to two chunks are fast; longer ones run in the profile for everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A range of shapes, and the ones within it that a plan is fastest at."""

    least: Lengths
    """The shortest lengths."""
    usual: Lengths
    """The lengths that kernels are chosen for."""
    most: Lengths
    """The longest lengths."""

    def accepts(self, graph: Graph, shapes: Mapping[str, Shape]) -> bool:
        """Whether inputs of these shapes, by name, are within it."""
        return all(
            _is_between(one.lengths(self.least), shapes[one.name], one.lengths(self.most))
            for one in graph.inputs
        )

    def describe(self, graph: Graph) -> str:
        """The shapes of a graph's inputs, as keys have them."""
        return "; ".join(
            f"{one.name} {one.lengths(self.least)} to {one.lengths(self.most)}, at best {one.lengths(self.usual)}"
            for one in graph.inputs
        )


def for_bucket(*, width: int, height: int, rows: int) -> Profile:
    """The profile of images of one size.

    Args:
        width: in pixels.
        height: in pixels.
        rows: most rows of one run, which it is fastest at.
    """
    size = {HEIGHT.name: height // 8, WIDTH.name: width // 8}
    return Profile(
        least={ROWS.name: 1, TOKENS.name: TOKENS.least, **size},
        usual={ROWS.name: rows, TOKENS.name: TOKENS.least, **size},
        most={ROWS.name: rows, TOKENS.name: _BUCKET_TOKENS, **size},
    )


def for_everything(*, side: int, usual_side: int, rows: int, least_side: int = 64) -> Profile:
    """The profile of all that an engine accepts.

    Args:
        side: the longest side of an image in pixels.
        usual_side: the side of the image that it is fastest at.
        rows: most rows of one run.
        least_side: the shortest side of an image in pixels.
    """
    longest = max(side // 8, 2 * HEIGHT.least)
    usual = min(usual_side // 8, longest)
    least = least_side // 8
    return Profile(
        least={
            ROWS.name: ROWS.least,
            HEIGHT.name: least,
            WIDTH.name: least,
            TOKENS.name: TOKENS.least,
        },
        usual={ROWS.name: 1, HEIGHT.name: usual, WIDTH.name: usual, TOKENS.name: TOKENS.least},
        most={
            ROWS.name: rows,
            HEIGHT.name: longest,
            WIDTH.name: longest,
            TOKENS.name: TOKENS.most,
        },
    )


def for_graph(graph: Graph, profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """Those that are different for a graph, in their order: a text encoder has the axis of rows alone."""
    different: dict[tuple[tuple[Shape, ...], ...], Profile] = {}
    for profile in profiles:
        shapes = tuple(
            tuple(one.lengths(lengths) for lengths in (profile.least, profile.usual, profile.most))
            for one in graph.inputs
        )
        different.setdefault(shapes, profile)
    return tuple(different.values())


def find(graph: Graph, profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int | None:
    """The place of the first profile that accepts inputs of these shapes, by name; None if none does."""
    accepting = (place for place, one in enumerate(profiles) if one.accepts(graph, shapes))
    return next(accepting, None)


def _is_between(least: Shape, shape: Shape, most: Shape) -> bool:
    return len(shape) == len(most) and all(
        low <= length <= high for low, length, high in zip(least, shape, most, strict=True)
    )
