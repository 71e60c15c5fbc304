"""The weights in the file of an exported network, and sessions with others in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atelier_engines.diffusion.loras.merging import merged_tensors
from atelier_engines.diffusion.loras.replacing import WeightedLora
from atelier_engines.diffusion.runtimes.graphs import structures
from atelier_engines.diffusion.runtimes.graphs.graph import MODULE

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedWeights:
    """A network's graph, and its weights apart from it."""

    structure: bytes
    """The graph in ONNX's format, in which every weight is named and none has numbers."""
    tensors: Mapping[str, torch.Tensor]
    """The weights by name; not to be changed."""


def read_names(path: Path) -> frozenset[str]:
    """The names of the weights in a file.

    Raises:
        OSError: it cannot be read.
    """
    import onnx  # noqa: PLC0415  (an extra)

    model = onnx.load(path, load_external_data=False)
    return frozenset(one.name for one in model.graph.initializer)


def read(path: Path) -> ExportedWeights:
    """Graph and weights of a file.

    Raises:
        OSError: it cannot be read.
    """
    import onnx  # noqa: PLC0415  (an extra)
    from onnx import numpy_helper  # noqa: PLC0415  (an extra)

    model: ModelProto = onnx.load(path)
    tensors: dict[str, torch.Tensor] = {}
    for one in model.graph.initializer:
        # A copy, since torch wants arrays that may be written to.
        tensors[one.name] = torch.from_numpy(numpy_helper.to_array(one).copy())
        structures.clear(one)
    return ExportedWeights(structure=model.SerializeToString(), tensors=tensors)


def merge(
    tensors: Mapping[str, torch.Tensor], loras: Sequence[WeightedLora]
) -> Mapping[str, torch.Tensor]:
    """The weights that LoRAs change, by name, with the changes in them.

    Args:
        tensors: the original weights.
        loras: those that are active.
    """
    merged: dict[str, torch.Tensor] = {}
    for place in dict.fromkeys(place for one in loras for place in one.changes):
        changes = [(one.changes[place], one.weight) for one in loras if place in one.changes]
        name = f"{MODULE}{place}"
        made = merged_tensors(tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias"), changes)
        merged |= {f"{name}.{kind}": tensor for kind, tensor in made}
    return merged
