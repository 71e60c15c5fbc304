"""Exports a network to a file in ONNX format."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atelier_engines.diffusion.runtimes.graphs import structures
from atelier_engines.diffusion.runtimes.graphs.graph import Graph

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

OPSET = 20

_TALKATIVE = ("onnxscript", "onnx_ir", "torch.onnx", "torch.__trace")
"""Loggers that report every tensor at INFO or DEBUG."""


def export(graph: Graph, module: torch.nn.Module, path: Path) -> None:
    """Write a network's graph, and its weights into a second file beside it, from which ONNX Runtime maps them.

    Args:
        graph: its specification.
        module: the network, on the CPU, in the types that the specification names.
        path: where the file is to be.

    Raises:
        Exception: whatever torch raises where it cannot export the network.
    """
    wrapped = graph.wrap(module).eval()
    known = structures.find(graph, wrapped)
    if known is not None:
        _write_known(known, wrapped, path)
        return
    trace(graph, wrapped).save(path, external_data=True)


def check(path: Path) -> None:
    """Return if a file is valid ONNX; it is read by its path, since messages of protobuf end at 2 GB.

    Raises:
        Exception: whatever ONNX's checker raises; the file is not valid.
    """
    import onnx  # noqa: PLC0415  (an extra)

    onnx.checker.check_model(str(path))


def optimize(path: Path) -> None:
    """Fold constants in an exported file, and replace what runtimes other than ONNX Runtime do not know.

    Lists of tensors for instance, which torch splits into: TensorRT has none.
    """
    import onnx_ir  # noqa: PLC0415  (an extra)
    from onnxscript import optimizer  # noqa: PLC0415  (an extra)

    before = path.rename(path.with_name(f"traced-{path.name}"))
    model = onnx_ir.load(before)
    optimizer.optimize_ir(model)
    data = [file for file in before.parent.iterdir() if file.name.endswith(".data")]
    onnx_ir.save(model, path, external_data=f"optimized-{path.name}.data" if data else None)
    for file in (before, *data):
        file.unlink()


def trace(graph: Graph, wrapped: torch.nn.Module) -> ONNXProgram:
    """A network's graph with its weights, from torch; takes minutes for the larger ones.

    Args:
        graph: its specification.
        wrapped: the network as `graph.wrap` returns it.

    Raises:
        Exception: as `export`.
    """
    examples = tuple(one.example() for one in graph.inputs)
    with torch.inference_mode(mode=False), torch.no_grad(), _quiet():
        # Traced here and not by torch.onnx, which traces networks with residuals a second time, in a slower way.
        traced = torch.export.export(
            wrapped, examples, dynamic_shapes=_dynamic_shapes(graph, wrapped), strict=False
        )
        program = torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            input_names=[one.name for one in graph.inputs],
            output_names=list(graph.outputs),
            # What runs the graph optimizes it; this would only rename the weights.
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"torch returned no program for the {graph.name}")
    return program


def _write_known(structure: Path, wrapped: torch.nn.Module, path: Path) -> None:
    import onnx  # noqa: PLC0415  (an extra)

    model = onnx.load(structure, load_external_data=False)
    structures.fill(model, wrapped)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the exporter's warnings about torch's internals, and its logs below WARNING."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _dynamic_shapes(graph: Graph, wrapped: torch.nn.Module) -> tuple[Any, ...]:
    """As torch.export wants them: those of the arguments that `*` collects as one tuple."""
    axes = [dict(one.dynamic_axes()) for one in graph.inputs]
    parameters = list(signature(wrapped.forward).parameters.values())
    if parameters[-1].kind is not Parameter.VAR_POSITIONAL:
        return tuple(axes)
    named = len(parameters) - 1
    return (*axes[:named], tuple(axes[named:]))
