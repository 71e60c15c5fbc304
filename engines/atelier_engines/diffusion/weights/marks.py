"""Reads what a single file says of how its model was trained: marks among its tensors, and its metadata.

Sources: ComfyUI 0.33.0, comfy/supported_models.py (classes SD20 and SDXL, model_type) and
comfy_extras/nodes_model_merging.py, save_checkpoint; github.com/Stability-AI/ModelSpec 1.0.1;
kohya-ss/sd-scripts, library/sai_model_spec.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atelier_engines.diffusion.config import PredictionType
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import safetensors_header
from atelier_engines.local.weights.safetensors_header import FileHeader

EdmKind = Literal["velocity", "noise"]

_PREDICTIONS: Mapping[str, PredictionType] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_pred": "v_prediction",
    "v_prediction": "v_prediction",
    "velocity": "v_prediction",
    "sample": "sample",
    "x0": "sample",
}
"""What the denoiser predicts, by its names in metadata."""

_KEYS = ("modelspec.prediction_type", "modelspec.predict_key")
ARCHITECTURE = "modelspec.architecture"

_ARCHITECTURES: Mapping[str, PredictionType] = {
    "stable-diffusion-v2-512": "epsilon",
    "stable-diffusion-v2-768-v": "v_prediction",
    "stable-diffusion-v2-inpainting": "epsilon",
}
"""Architectures in metadata that say what the denoiser predicts; others may be trained for either."""

_EDM = ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edm:
    """What a model needs that was trained with continuous noise, as in "EDM" (arXiv 2206.00364)."""

    kind: EdmKind
    """What its denoiser predicts: velocity in CosXL, in Playground 2.5 noise."""
    sigma_min: float = 0.002
    """Standard deviation of the least noise."""
    sigma_max: float = 80.0
    """Standard deviation of the most noise."""
    mean: tuple[float, ...] | None = None
    """Mean of the autoencoder's latents by channel; None where they are only scaled."""
    std: tuple[float, ...] | None = None
    """Standard deviation of the autoencoder's latents by channel; None as `mean`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a file says of its model."""

    predictions: Mapping[str, PredictionType]
    """What the denoiser predicts, by what says so."""
    unknown: tuple[str, ...] = ()
    """What is said of the prediction in words that are not known, each with its key."""
    zero_snr: bool
    """Whether the model was trained down to zero signal (the tensor `ztsnr`)."""
    edm: Edm | None
    """None where the model was trained with the noise of discrete steps."""
    architecture: str
    """The architecture by the metadata, in lower case; empty where it names none."""


def read_marks(path: Path, header: FileHeader) -> Marks:
    """What the file says of its model.

    Raises:
        ModelMissingError: marks of continuous noise are not known, incomplete, or contradict others; the
            message names them.
    """
    metadata = header.metadata
    found: dict[str, PredictionType] = {}
    if "v_pred" in header.tensors:
        found["the tensor v_pred"] = "v_prediction"
    unknown = []
    for key, text in [(key, metadata[key]) for key in _KEYS if metadata.get(key)]:
        prediction = _PREDICTIONS.get(text.strip().lower().replace("-", "_"))
        if prediction is None:
            unknown.append(f"{key}: {text!r}")
        else:
            found[f"{key} in the metadata"] = prediction
    architecture = metadata.get(ARCHITECTURE, "").strip().lower()
    if architecture in _ARCHITECTURES:
        found[f"{ARCHITECTURE} {architecture}"] = _ARCHITECTURES[architecture]
    edm = _read_edm(path, header)
    zero_snr = "ztsnr" in header.tensors
    if edm is not None:
        expected: PredictionType = "v_prediction" if edm.kind == "velocity" else "epsilon"
        mark = "edm_vpred.sigma_max" if edm.kind == "velocity" else "edm_mean"
        found = {f"the tensor {mark}": expected, **found}
        if zero_snr:
            raise ModelMissingError(
                f"{path} contradicts itself: the tensor {mark} says continuous noise, and ztsnr discrete steps"
            )
    return Marks(
        predictions=found,
        unknown=tuple(unknown),
        zero_snr=zero_snr,
        edm=edm,
        architecture=architecture,
    )


def _read_edm(path: Path, header: FileHeader) -> Edm | None:
    there = [name for name in header.tensors if name.startswith("edm_")]
    if not there:
        return None
    if unknown := [name for name in there if name not in _EDM]:
        raise ModelMissingError(
            f"{path} has the mark {unknown[0]}, which is not known; known are {', '.join(_EDM)}"
        )
    kinds = {name.partition(".")[0] == "edm_vpred" for name in there}
    if len(kinds) > 1:
        raise ModelMissingError(
            f"{path} contradicts itself: {' and '.join(there)} are marks of different models"
        )
    if kinds == {True}:
        values = [_read(path, header, name, there)[0] for name in _EDM[2:] if name in there]
        if _EDM[2] not in there:
            raise _incomplete(path, _EDM[2], there)
        return Edm(kind="velocity", sigma_max=values[0], sigma_min=[*values, 0.002][1])
    mean, std = (_read(path, header, name, there) for name in _EDM[:2])
    return Edm(kind="noise", mean=mean, std=std)


def _read(path: Path, header: FileHeader, name: str, there: list[str]) -> tuple[float, ...]:
    if name not in there:
        raise _incomplete(path, name, there)
    values = safetensors_header.read_numbers(path, header.tensors[name])
    if not values:
        raise _incomplete(path, name, there)
    return values


def _incomplete(path: Path, name: str, there: list[str]) -> ModelMissingError:
    return ModelMissingError(f"{path} is incomplete: it has {there[0]}, and no values of {name}")
