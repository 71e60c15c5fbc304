"""Compares what runs a built network with torch, at sizes that it was not exported at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import Graph, GraphInput
from atelier_engines.local.builds.manifest import Deviation

TOLERANCES: Mapping[torch.dtype, float] = {torch.float32: 1e-4, torch.float16: 5e-3}
"""The largest deviation, as a fraction of an output's largest number, that a build may have."""

Inputs = Mapping[str, torch.Tensor]
Run = Callable[[Inputs], Sequence[torch.Tensor]]

_LENGTHS: tuple[Mapping[str, int], ...] = (
    {"rows": 1, "height": 8, "width": 8, "tokens": 77, "latents": 4},
    {"rows": 2, "height": 13, "width": 10, "tokens": 231, "latents": 43},
)
_SEED = 0
_REPLACED = 0.1
"""The share of True in inputs that are True or False."""


def draw_inputs(graph: Graph, sizes: Sequence[Mapping[str, int]] = _LENGTHS) -> tuple[Inputs, ...]:
    """Random inputs, always the same, for each of the sizes: lengths by the names of axes."""
    generator = torch.Generator().manual_seed(_SEED)
    return tuple(
        {one.name: _draw(one, lengths, generator) for one in graph.inputs} for lengths in sizes
    )


def run_torch(
    graph: Graph, module: torch.nn.Module, inputs: Sequence[Inputs]
) -> tuple[tuple[torch.Tensor, ...], ...]:
    """What torch computes of each of the inputs."""
    wrapped = graph.wrap(module).eval()
    with torch.inference_mode():
        made = [wrapped(*(each[one.name] for one in graph.inputs)) for each in inputs]
    return tuple(one if isinstance(one, tuple) else (one,) for one in made)


def measure(
    graph: Graph,
    run: Run,
    inputs: Sequence[Inputs],
    expected: Sequence[Sequence[torch.Tensor]],
) -> tuple[Deviation, ...]:
    """How far each output is from torch's at worst.

    Raises:
        ValueError: an output has another shape, or numbers that are not finite where torch's are.
    """
    worst: dict[str, Deviation] = {}
    for each, wanted in zip(inputs, expected, strict=True):
        for name, ours, theirs in zip(graph.outputs, run(each), wanted, strict=True):
            found = _compare(name, ours.float(), theirs.float())
            if name not in worst or found.relative > worst[name].relative:
                worst[name] = found
    return tuple(worst.values())


def _compare(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> Deviation:
    if ours.shape != theirs.shape:
        raise ValueError(f"{name} has the shape {tuple(ours.shape)}, not {tuple(theirs.shape)}")
    if not torch.isfinite(ours).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return Deviation(
        output=name,
        largest_error=float((ours - theirs).abs().max()),
        largest_value=float(theirs.abs().max()),
    )


def _draw(one: GraphInput, lengths: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
    shape = one.lengths(lengths)
    if one.dtype is torch.bool:
        return torch.rand(shape, generator=generator) < _REPLACED
    if one.dtype is torch.int64:
        return torch.randint(0, one.highest, shape, generator=generator)
    if one.highest:
        return (torch.rand(shape, generator=generator) * one.highest).to(one.dtype)
    return torch.randn(shape, generator=generator).to(one.dtype)
