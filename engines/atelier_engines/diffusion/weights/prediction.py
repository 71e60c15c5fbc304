"""Decides how a model in one file is sampled: what its denoiser predicts, and with which noise schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev

from atelier_engines.diffusion.config import PredictionType
from atelier_engines.diffusion.weights.marks import ARCHITECTURE, Edm, Marks
from atelier_engines.diffusion.weights.single_file import DENOISER, FamilyName
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import safetensors_header
from atelier_engines.local.weights.safetensors_header import FileHeader

SchedulerConfig = Mapping[str, object]
"""The content of a scheduler_config.json."""

_LAST_NORM = f"{DENOISER}output_blocks.11.1.transformer_blocks.0.norm1.bias"
_FIRST = f"{DENOISER}input_blocks.0.0.weight"
_INPAINTING = 9
_VELOCITY_DEVIATION = 0.09
"""Above this standard deviation of `_LAST_NORM` a file of Stable Diffusion 2 predicts velocity.

Source: ComfyUI 0.33.0, comfy/supported_models.py, class SD20, model_type.
"""

_ARCHITECTURES: Mapping[FamilyName, str] = {
    "sd15": "stable-diffusion-v1",
    "sd21": "stable-diffusion-v2",
    "sdxl": "stable-diffusion-xl-v1",
}

_EDM_VELOCITY: SchedulerConfig = {"_class_name": "EDMEulerScheduler", "sigma_data": 1.0}
"""Source: stabilityai/cosxl, as diffusers 0.42.1 samples it; sigma_data by ComfyUI, ModelSamplingContinuousEDM."""

_EDM_NOISE: SchedulerConfig = {
    "_class_name": "EDMDPMSolverMultistepScheduler",
    "algorithm_type": "dpmsolver++",
    "sigma_data": 0.5,
}
"""Source: playgroundai/playground-v2.5-1024px-aesthetic, scheduler/scheduler_config.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a model is sampled, and what says so."""

    prediction: PredictionType
    """What its denoiser predicts."""
    scheduler: SchedulerConfig
    """The configuration of its scheduler."""
    reasons: tuple[str, ...]
    """What was decided and by what, for people."""


def decide_sampling(
    path: Path,
    header: FileHeader,
    family: FamilyName,
    marks: Marks,
    *,
    configured: PredictionType | None,
    base: SchedulerConfig | None,
    shipped: SchedulerConfig,
) -> Sampling:
    """How the model in a file is sampled.

    The configuration decides, then what the file says, then the scheduler of `base`, then the weights
    of Stable Diffusion 2, whose two kinds say nothing, and at last what is usual in the family.

    Args:
        path: the file.
        header: its header.
        family: the model's family.
        marks: what the file says.
        configured: `prediction_type` of the configuration.
        base: the scheduler of the configured `base`, if it has one.
        shipped: the usual scheduler of the family.

    Raises:
        ModelMissingError: these contradict each other; the message says what to set.
    """
    _require_family(path, family, marks)
    scheduler = _choose_scheduler(marks.edm, base, shipped)
    prediction, reason = _choose_prediction(
        path,
        header,
        family=family,
        marks=marks,
        configured=configured,
        base=base,
        shipped=shipped,
    )
    scheduler = {**scheduler, "prediction_type": prediction}
    reasons = [f"{prediction} by {reason}"]
    if marks.edm is not None:
        reasons.append(f"continuous noise (EDM) up to {marks.edm.sigma_max:g} by the tensors edm_*")
    if marks.zero_snr:
        if prediction == "epsilon":
            raise ModelMissingError(
                f"{path} contradicts itself: the tensor ztsnr says zero terminal SNR, which needs "
                f"velocity, and it is epsilon by {reason}; set `prediction_type: v_prediction`, or "
                "remove the mark"
            )
        if base is None:  # the usual ones of older families do not have the setting
            scheduler["_class_name"] = "EulerDiscreteScheduler"
        scheduler["rescale_betas_zero_snr"] = True
        reasons.append("zero terminal SNR by the tensor ztsnr")
    return Sampling(prediction=prediction, scheduler=scheduler, reasons=tuple(reasons))


def read_prediction(scheduler: SchedulerConfig) -> PredictionType:
    """What a scheduler's configuration says; diffusers' default is epsilon."""
    match scheduler.get("prediction_type", "epsilon"):
        case "v_prediction":
            return "v_prediction"
        case "sample":
            return "sample"
        case _:
            return "epsilon"


def _choose_scheduler(
    edm: Edm | None, base: SchedulerConfig | None, shipped: SchedulerConfig
) -> SchedulerConfig:
    if edm is None:
        return shipped if base is None else base
    usual = _EDM_VELOCITY if edm.kind == "velocity" else _EDM_NOISE
    own = base if base is not None and str(base.get("_class_name")).startswith("EDM") else usual
    return {**own, "sigma_min": edm.sigma_min, "sigma_max": edm.sigma_max}


def _choose_prediction(
    path: Path,
    header: FileHeader,
    *,
    family: FamilyName,
    marks: Marks,
    configured: PredictionType | None,
    base: SchedulerConfig | None,
    shipped: SchedulerConfig,
) -> tuple[PredictionType, str]:
    if configured is not None:
        return configured, "the configuration"
    if marks.unknown:
        raise ModelMissingError(
            f"{path} says {marks.unknown[0]} in its metadata, which is not known; set `prediction_type` "
            "to epsilon, v_prediction or sample if it is one of these"
        )
    if marks.predictions:
        return _require_agreement(path, marks.predictions)
    guess = _guess_by_weights(path, header) if family == "sd21" else None
    if base is not None:
        own = read_prediction(base)
        if guess is not None and guess.certain and guess.prediction != own:
            raise ModelMissingError(
                f"{path} is {guess.prediction} by {guess.reason}, and {own} by the scheduler of `base`; "
                "set `prediction_type`"
            )
        return own, "the scheduler of `base`"
    if guess is not None:
        return guess.prediction, guess.reason
    return read_prediction(shipped), f"what is usual in {family}"


def _require_agreement(
    path: Path, predictions: Mapping[str, PredictionType]
) -> tuple[PredictionType, str]:
    if len(set(predictions.values())) > 1:
        told = ", ".join(f"{value} by {source}" for source, value in predictions.items())
        raise ModelMissingError(f"{path} contradicts itself: {told}; set `prediction_type`")
    return next((value, source) for source, value in predictions.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guess:
    """What weights make likely."""

    prediction: PredictionType
    reason: str
    certain: bool
    """False where the weights were never trained, and so say nothing against others."""


def _guess_by_weights(path: Path, header: FileHeader) -> _Guess | None:
    """What a file of Stable Diffusion 2 predicts; None where it lacks the layer that tells."""
    first = header.tensors.get(_FIRST)
    if first is not None and first.shape[1:2] == (_INPAINTING,):
        return _Guess(prediction="epsilon", reason="its inputs for inpainting", certain=True)
    bias = header.tensors.get(_LAST_NORM)
    values = () if bias is None else safetensors_header.read_numbers(path, bias)
    if not values:
        return None
    deviation = pstdev(values)
    return _Guess(
        prediction="v_prediction" if deviation > _VELOCITY_DEVIATION else "epsilon",
        reason=f"the deviation {deviation:.3f} of {_LAST_NORM.removeprefix(DENOISER)}",
        certain=deviation > 0,
    )


def _require_family(path: Path, family: FamilyName, marks: Marks) -> None:
    """Return unless the metadata names another family than the tensors, or a model of another kind."""
    named = next(
        (name for name, start in _ARCHITECTURES.items() if marks.architecture.startswith(start)),
        family,
    )
    if named != family or marks.architecture.endswith(("-refiner", "-edit")):
        raise ModelMissingError(
            f"{path} contradicts itself: its tensors are those of {family}, and {ARCHITECTURE} in "
            f"its metadata is {marks.architecture}"
        )
