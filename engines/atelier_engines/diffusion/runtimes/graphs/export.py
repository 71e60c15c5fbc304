"""Exports a network to a file in ONNX format."""

from __future__ import annotations

import warnings
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import Graph

OPSET = 20


def export(graph: Graph, module: torch.nn.Module, path: Path) -> None:
    """Write a network's graph; weights of more than 2 GB go into a second file beside it.

    Args:
        graph: its specification.
        module: the network, on the CPU, in the types that the specification names.
        path: where the file is to be.

    Raises:
        Exception: whatever torch raises where it cannot export the network.
    """
    wrapped = graph.wrap(module).eval()
    examples = tuple(one.example() for one in graph.inputs)
    with torch.inference_mode(mode=False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about torch's internals
        program = torch.onnx.export(
            wrapped,
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=[one.name for one in graph.inputs],
            output_names=list(graph.outputs),
            dynamic_shapes=_dynamic_shapes(graph, wrapped),
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"torch returned no program for the {graph.name}")
    program.save(path)


def _dynamic_shapes(graph: Graph, wrapped: torch.nn.Module) -> tuple[Any, ...]:
    """As torch.export wants them: those of the arguments that `*` collects as one tuple."""
    axes = [dict(one.dynamic_axes()) for one in graph.inputs]
    parameters = list(signature(wrapped.forward).parameters.values())
    if parameters[-1].kind is not Parameter.VAR_POSITIONAL:
        return tuple(axes)
    named = len(parameters) - 1
    return (*axes[:named], tuple(axes[named:]))
