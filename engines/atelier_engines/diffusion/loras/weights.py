"""Reads LoRAs of all common formats, and checks that they match the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from atelier_engines.diffusion.loras import formats
from atelier_engines.diffusion.loras.changes import LayerChange
from atelier_engines.diffusion.loras.merging import weight_shape
from atelier_engines.diffusion.loras.names import Layer, LayerNames
from atelier_engines.diffusion.loras.settings import TrainingSettings
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import describe_unreadable

Networks = Sequence[tuple[str, torch.nn.Module]]
"""The model's components, each with its name in files of LoRAs; none has active LoRAs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraWeights:
    """A LoRA that matches the model."""

    name: str
    """Its name, for messages."""
    changes: Mapping[str, Mapping[str, LayerChange]]
    """What it changes, by component (unet, text_encoder, text_encoder_2) and the layer's name in it."""


def read(name: str, path: Path, networks: Networks) -> LoraWeights:
    """Read a LoRA for a model from a file; docs/formats.md lists the formats.

    Args:
        name: the LoRA's, for messages.
        path: the file.
        networks: the model's components.

    Raises:
        ModelMissingError: the file is broken, of a format that cannot be applied, or for another model.
    """
    tensors, metadata = _read_tensors(name, path)
    if (rejection := formats.rejection(tensors)) is not None:
        raise ModelMissingError(
            f"{path.name} is not a supported LoRA, or contains more than a LoRA: {rejection}; "
            "use a LoRA, DoRA, LoHa, LoKr or weight difference, or convert it to one"
        )
    _require_changes(name, path, tensors)
    grouped = formats.group(tensors)
    settings = TrainingSettings.read(path, metadata)
    layers = _find_layers(name, list(grouped), networks)
    changes: dict[str, dict[str, LayerChange]] = {}
    for title, keys in grouped.items():
        layer = layers[title]
        change = _layer_change({part: tensors[key] for part, key in keys.items()}, layer, settings)
        if not change.complete:
            raise ModelMissingError(
                f"the LoRA {name} in {path.name} is broken: {title} has {', '.join(sorted(keys))}, "
                "which make up no change"
            )
        own = changes.setdefault(layer.network, {})
        if layer.place in own:
            raise ModelMissingError(
                f"the LoRA {name} in {path.name} is broken: it changes {layer.network}.{layer.place} twice, "
                f"once as {title}"
            )
        own[layer.place] = change
    lora = LoraWeights(name=name, changes=changes)
    _require_shapes(lora, networks)
    return lora


def _read_tensors(name: str, path: Path) -> tuple[Mapping[str, torch.Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (safetensors' file is no mapping)
    except Exception as error:  # third-party files fail in many ways
        raise ModelMissingError(
            f"the LoRA {name} in {path.name} cannot be read: {describe_unreadable(error, path)}"
        ) from error


def _require_changes(name: str, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    parts = {key: found[1] for key in tensors if (found := formats.split(key)) is not None}
    if set(parts.values()) <= {"alpha"}:
        raise ModelMissingError(
            f"{path.name} is not a supported LoRA: it contains no change of a layer"
        )
    for key, tensor in tensors.items():
        problem = _number_problem(parts.get(key), tensor)
        if problem is not None:
            raise ModelMissingError(
                f"the LoRA {name} in {path.name} is broken: its key {key} {problem}"
            )


def _number_problem(part: str | None, tensor: torch.Tensor) -> str | None:
    """What is wrong with the numbers of one tensor, if anything."""
    if not tensor.numel():
        return "holds no number"  # a rank of 0, for instance
    if part == "alpha" and tensor.numel() > 1:
        return f"holds {tensor.numel()} numbers, and alpha is one"
    if part != "alpha" and not tensor.is_floating_point():
        return f"has numbers of the type {str(tensor.dtype).removeprefix('torch.')}, not floating-point ones"
    return None if torch.isfinite(tensor.float()).all() else "contains NaN or infinity"


def _layer_change(
    tensors: Mapping[str, torch.Tensor], layer: Layer, settings: TrainingSettings
) -> LayerChange:
    parts = dict(tensors)
    alpha = parts.pop("alpha", None)
    return LayerChange(
        parts=parts,
        alpha=settings.alpha(layer) if alpha is None else float(alpha),
        rank_stabilized=alpha is None and settings.rank_stabilized(layer),
    )


def _find_layers(name: str, titles: Sequence[str], networks: Networks) -> Mapping[str, Layer]:
    names = LayerNames(networks)
    found = {title: names.find(title) for title in titles}
    missing = [title for title, layer in found.items() if layer is None]
    if missing:
        raise _mismatch_error(name, _explain_missing(missing[0], networks))
    return {title: layer for title, layer in found.items() if layer is not None}


def _explain_missing(title: str, networks: Networks) -> str:
    head, dot, rest = title.partition(".")
    known = {network for network, _ in networks}
    if dot and head in known:
        return f"the model has no {rest}"
    if dot and head in {"transformer", "unet", "text_encoder", "text_encoder_2", "text_encoder_3"}:
        return f"it is for a model with {head}"
    return f"the model has no {title}"


def _require_shapes(lora: LoraWeights, networks: Networks) -> None:
    for network, module in networks:
        for place, change in lora.changes.get(network, {}).items():
            problem = _mismatch(change, module.get_submodule(place))
            if problem is not None:
                raise _mismatch_error(lora.name, f"{network}.{place}: {problem}")


def _mismatch(change: LayerChange, layer: torch.nn.Module) -> str | None:
    """Why a change does not fit a layer, found by shapes alone; None if it does."""
    shape, bias = weight_shape(layer), change.bias()
    has_bias = isinstance(getattr(layer, "bias", None), torch.Tensor)
    if bias is not None and not (has_bias and tuple(bias.shape) == shape[:1]):
        wanted = f"a bias of {shape[:1]}" if has_bias else "no bias"
        return f"diff_b has the shape {tuple(bias.shape)}, but the layer has {wanted}"
    try:
        change.on_meta().difference(torch.empty(shape, device="meta"))
    except (
        RuntimeError,
        IndexError,
        ZeroDivisionError,
    ):  # of the shapes, their number, a rank of 0
        shapes = ", ".join(f"{part} {tuple(one.shape)}" for part, one in change.parts.items())
        return f"{shapes} does not fit the layer's weight {shape}"
    return None


def _mismatch_error(name: str, explanation: str) -> ModelMissingError:
    return ModelMissingError(f"the LoRA {name} does not match this model: {explanation}")
