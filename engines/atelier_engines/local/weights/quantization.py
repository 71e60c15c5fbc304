"""Recognises weights that are stored in fewer bits beside scales, by names, types and metadata; reads no weights.

A weight is then its stored numbers times its scale. Which other formats there are is told by names alone, so that
a file is rejected by name and never used without what its numbers mean.

Source: ComfyUI 0.33.0, QUANTIZATION.md; comfy/utils.py, convert_old_quants; comfy/ops.py, _load_quantized_module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import safetensors_header
from atelier_engines.local.weights.safetensors_header import FileHeader, TensorHeader

_METADATA = "_quantization_metadata"
_FP8 = ("float8_e4m3fn", "float8_e5m2")
_INT8 = "int8_tensorwise"

_SCALES = ("scale_weight", "weight_scale")
"""The scale of a layer's weight, in its older and its newer spelling."""
_UNUSED = ("scaled_fp8", "comfy_quant", "scale_input", "input_scale")
"""Marks, and scales for programs that quantize a layer's input too, which is not needed to use its weight."""
_PLAIN = ("logit_scale",)
"""Numbers of unquantized models whose names look like those of scales."""
_FOREIGN = re.compile(
    r"scale|absmax|zero|quant|codebook|scb|qweight|wgt|g_idx|^_data$|:_data", re.IGNORECASE
)
_KNOWN = (
    "fp8 (float8_e4m3fn, float8_e5m2) and int8_tensorwise with one scale for each tensor or row"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How the weights of a file, or of one component in it, are stored."""

    scales: Mapping[str, str]
    """The names of scales by the names of the weights that are to be multiplied by them."""
    others: frozenset[str]
    """Names of tensors that describe the format and are no weights."""


def find_quantization(path: Path, prefix: str = "") -> Quantization:
    """How the tensors of a file are stored; both fields are empty where nothing is quantized.

    Args:
        path: the file.
        prefix: how the names of the tensors begin that matter.

    Raises:
        ModelMissingError: they are in a format that is not supported, or scales are missing; the
            message names format and tensor. Or the file is absent or broken.
    """
    header = safetensors_header.read_header(path)
    tensors = {name: one for name, one in header.tensors.items() if name.startswith(prefix)}
    formats = _read_formats(path, header, tensors)
    scales: dict[str, str] = {}
    others: set[str] = set()
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf in _SCALES:
            _require_scale(path, name, tensor, tensors.get(f"{layer}.weight"))
            scales[f"{layer}.weight"] = name
        elif leaf in _UNUSED:
            others.add(name)
        elif layer and _FOREIGN.search(leaf) and leaf not in _PLAIN:
            raise _unsupported(path, name, "in a format that is not supported")
    for layer, form in formats.items():
        if f"{layer}.weight" not in scales:
            raise ModelMissingError(
                f"{path} is incomplete: {layer} is quantized as {form} and has no weight_scale"
            )
    _require_numbers(path, tensors, formats)
    return Quantization(scales=scales, others=frozenset({*others, *scales.values()}))


def require_unquantized(files: Sequence[Path]) -> None:
    """Return if nothing in these files is quantized, where they are read by a loader that knows no scales.

    Raises:
        ModelMissingError: something is; or see find_quantization.
    """
    for path in files:
        for name in find_quantization(path).scales:
            raise ModelMissingError(
                f"{path} is quantized ({name}), which is not supported in a directory of this kind; "
                "use its weights in float16 or bfloat16"
            )


def _read_formats(
    path: Path, header: FileHeader, tensors: Mapping[str, TensorHeader]
) -> Mapping[str, str]:
    """Formats by the names of the layers that the metadata or their own tensors give one."""
    found: dict[str, object] = {}
    layers = _parse(path, header.metadata.get(_METADATA, "{}")).get("layers", {})
    if isinstance(layers, dict):
        found |= {name: form for name, form in layers.items() if f"{name}.weight" in tensors}
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "comfy_quant":
            found[layer] = _parse(path, safetensors_header.read_bytes(path, tensor))
    return {layer: _require_format(path, layer, form) for layer, form in found.items()}


def _parse(path: Path, text: str | bytes) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ModelMissingError(f"{path} has broken {_METADATA}: {error}") from error
    if not isinstance(found, dict):
        raise ModelMissingError(f"{path} has broken {_METADATA}: it is no JSON object")
    return found


def _require_format(path: Path, layer: str, settings: object) -> str:
    """The format of a layer, if it is one whose weight is a number times a scale."""
    known: Mapping[str, object] = settings if isinstance(settings, dict) else {}
    parameters = known.get("params")
    more: Mapping[str, object] = parameters if isinstance(parameters, dict) else {}
    form = str(known.get("format", "unnamed"))
    if known.get("convrot", more.get("convrot", False)):
        form += " with rotated weights (convrot)"
    if form not in (*_FP8, _INT8):
        raise _unsupported(path, layer, f"as {form}")
    return form


def _require_scale(path: Path, name: str, scale: TensorHeader, weight: TensorHeader | None) -> None:
    if weight is None:
        raise ModelMissingError(f"{path} is incomplete: {name} is the scale of no weight")
    by_row = bool(weight.shape) and scale.shape[:1] == weight.shape[:1] == (prod(scale.shape),)
    if scale.dtype not in safetensors_header.FLOATS or not (prod(scale.shape) == 1 or by_row):
        raise _unsupported(
            path, name, f"by blocks: the scale is {scale.dtype} of the shape {list(scale.shape)}"
        )


def _require_numbers(
    path: Path, tensors: Mapping[str, TensorHeader], formats: Mapping[str, str]
) -> None:
    """Weights that are integers have no meaning without a format that says so."""
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias") or tensor.dtype in safetensors_header.FLOATS:
            continue
        if (leaf, tensor.dtype, formats.get(layer)) != ("weight", "I8", _INT8):
            raise _unsupported(path, name, f"as {tensor.dtype} without a format that is supported")


def _unsupported(path: Path, name: str, what: str) -> ModelMissingError:
    return ModelMissingError(
        f"{path} is quantized {what} ({name}); supported are {_KNOWN}; use the model in one of these, "
        "or in float16 or bfloat16"
    )
