"""Graphs without weights, which come with the small model: with a network's weights in them, they are its export.

Tracing a network takes minutes; a graph depends on nothing but its architecture.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import Axis, Graph

if TYPE_CHECKING:
    from onnx import ModelProto

_SETTINGS = "settings"
_ELSEWHERE = "given later"
_WITHOUT_EFFECT = frozenset(
    {"architectures", "dtype", "sample_size", "torch_dtype", "transformers_version"}
)
"""Settings of networks that change nothing in what they compute."""


def find(graph: Graph, wrapped: torch.nn.Module) -> Path | None:
    """The file of the graph of a network, if it is known; it is the small model's or has its architecture.

    Args:
        graph: its specification.
        wrapped: the network as `graph.wrap` returns it.
    """
    import onnx  # noqa: PLC0415  (an extra)

    try:
        import atelier_tiny  # noqa: PLC0415  (its graphs are used where it is installed)
    except ImportError:
        return None
    path: Path | None = atelier_tiny.GRAPHS.get(name(graph, wrapped))
    if path is None:
        return None
    model = onnx.load(path, load_external_data=False)
    stored = {one.key: one.value for one in model.metadata_props}.get(_SETTINGS, "")
    # Newer versions of the libraries may know more settings, with defaults that change nothing.
    own = _settings(wrapped)
    same = all(own.get(key) == value for key, value in json.loads(stored).items())
    return path if same else None


def name(graph: Graph, wrapped: torch.nn.Module) -> str:
    """A name for the graph of a network: the same for networks of one specification with weights of one shape.

    It is another one where the wrapper's code is, so that no graph of older code is used.
    """
    made_from = {
        "inputs": [
            [one.name, str(one.dtype), [_describe(axis) for axis in one.shape]]
            for one in graph.inputs
        ],
        "outputs": graph.outputs,
        "wrapper": inspect.getsource(type(wrapped)),
        "weights": {key: list(tensor.shape) for key, tensor in wrapped.state_dict().items()},
    }
    text = json.dumps(made_from, sort_keys=True)
    title = graph.name.replace("'s", "").replace(" ", "-")
    return f"{title}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def strip(model: ModelProto, wrapped: torch.nn.Module) -> None:
    """Take the weights out of a graph, and what else nothing needs to run it."""
    for one in model.graph.initializer:
        clear(one)
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.metadata_props.add(key=_SETTINGS, value=json.dumps(_settings(wrapped), sort_keys=True))


def fill(model: ModelProto, wrapped: torch.nn.Module) -> None:
    """Put a network's weights into its graph.

    Raises:
        KeyError: the graph has a weight that the network has not.
    """
    from onnx import numpy_helper  # noqa: PLC0415  (an extra)

    weights = {
        **dict(wrapped.named_buffers(remove_duplicate=False)),
        **dict(wrapped.named_parameters(remove_duplicate=False)),
    }
    for one in model.graph.initializer:
        one.CopyFrom(numpy_helper.from_array(weights[one.name].detach().numpy(), one.name))


def clear(weight: Any) -> None:  # noqa: ANN401 (ONNX's TensorProto, which has no class before it is imported)
    """Take the numbers out of a weight, and say that they are in a file, which nobody reads.

    Source: ONNX, docs/ExternalData.md.
    """
    size = len(weight.raw_data)
    weight.ClearField("raw_data")
    weight.ClearField("external_data")
    weight.data_location = weight.EXTERNAL
    for key, value in (("location", _ELSEWHERE), ("offset", "0"), ("length", str(size))):
        weight.external_data.add(key=key, value=value)


def _describe(axis: int | Axis) -> list[object]:
    return [axis] if isinstance(axis, int) else [axis.name, axis.factor, axis.divisor]


def _settings(wrapped: torch.nn.Module) -> Mapping[str, Any]:
    """What the network's class was made with, as JSON has it."""
    found: dict[str, Any] = {}
    for part in (wrapped, *wrapped.children()):
        config = getattr(part, "config", {})
        values = config if isinstance(config, Mapping) else config.to_dict()
        found |= {key: value for key, value in values.items() if not key.startswith("_")}
    kept = {key: value for key, value in found.items() if key not in _WITHOUT_EFFECT}
    same: Mapping[str, Any] = json.loads(json.dumps(kept, default=str))
    return same
