"""Reads a directory in diffusers' layout: finds the weights, refuses what is not safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights.sources import PICKLE_SUFFIXES, refuse_pickle

INDEX = "model_index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentFiles:
    """The weight files of one component."""

    folder: Path
    """The directory, which holds config.json too."""
    variant: str | None
    """The variant in the file names, fp16 for instance."""
    weights: tuple[Path, ...]
    """One file, or the shards of one."""


def read_pipeline_class(folder: Path) -> str:
    """The class of the pipeline in `folder`, as model_index.json names it.

    Raises:
        ModelMissingError: there is no such folder, or it holds no pipeline.
    """
    if not folder.is_dir():
        raise ModelMissingError(f"there is no model directory {folder}")
    return str(read_object(folder / INDEX).get("_class_name", ""))


def read_object(path: Path) -> Mapping[str, object]:
    """The JSON object in a file.

    Raises:
        ModelMissingError: the file is absent, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelMissingError(
            f"{path} is missing; a model directory has diffusers' layout, with {INDEX} at its top"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelMissingError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelMissingError(f"{path} must hold a JSON object")
    return found


def find_component(folder: Path, stem: str, variant: str | None) -> ComponentFiles:
    """The weight files to load for the component in `folder`.

    Args:
        folder: the component's directory, with its config.json.
        stem: how the names of its weight files begin.
        variant: which files to take; None for those without a variant, else whatever is there.

    Raises:
        ModelMissingError: there are none, or only pickles, which could run code when loaded.
    """
    _require_unquantized(folder)
    by_variant: dict[str | None, list[Path]] = {}
    for path in sorted(folder.glob(f"{stem}[.-]*safetensors")):
        by_variant.setdefault(_variant(path), []).append(path)
    if not by_variant:
        raise _explain_no_weights(folder)
    chosen = variant if variant in by_variant else None
    if chosen is None and None not in by_variant:
        chosen = next(iter(by_variant))
    return ComponentFiles(folder=folder, variant=chosen, weights=tuple(by_variant[chosen]))


def _require_unquantized(folder: Path) -> None:
    """Return if the configuration names no package that has quantized the weights.

    Source: diffusers 0.42.1, models/modeling_utils.py, from_pretrained: `quantization_config`.
    """
    found = read_object(folder / "config.json").get("quantization_config")
    if found is None:
        return
    method = found.get("quant_method", "unnamed") if isinstance(found, dict) else "unnamed"
    raise ModelMissingError(
        f"{folder} is quantized by {method} (quantization_config in its config.json), which is not "
        "supported; use the model in float16 or bfloat16"
    )


def _variant(path: Path) -> str | None:
    """`fp16` of model.fp16.safetensors or of model.fp16-00001-of-00002.safetensors."""
    _, _, rest = path.name.removesuffix(".safetensors").partition(".")
    return rest.partition("-")[0] or None


def _explain_no_weights(folder: Path) -> ModelMissingError:
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        return refuse_pickle(pickles[0])
    return ModelMissingError(f"there are no .safetensors weights in {folder}")
