"""Finds the files of a Stable Audio Open model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from atelier_engines.audio_diffusion.model_folder import ModelFolder, find_folder
from atelier_engines.stable_audio.config import StableAudioConfig

_PARTS = ("text_encoder", "projection_model", "transformer", "vae")
_SOLVER = "scheduler/scheduler_config.json"


class SolverConfig(BaseModel, frozen=True):
    """The content of `scheduler_config.json`; the defaults are those of diffusers."""

    class_name: Literal["CosineDPMSolverMultistepScheduler"] = Field(alias="_class_name")
    sigma_min: float = 0.3
    sigma_max: float = 500.0
    sigma_data: float = 1.0
    sigma_schedule: Literal["exponential", "karras"] = "exponential"
    solver_order: Literal[1, 2] = 2
    prediction_type: Literal["epsilon", "v_prediction"] = "v_prediction"
    rho: float = 7.0
    solver_type: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"


def find_files(config: StableAudioConfig) -> ModelFolder:
    """The files that a configuration names, downloaded where that is needed and allowed.

    Raises:
        ModelMissingError: one is absent or broken.
    """
    others = (_SOLVER, "tokenizer/*.json", "tokenizer/spiece.model")
    return find_folder(config.model, _PARTS, others, download=config.download)


def read_solver(files: ModelFolder) -> SolverConfig:
    """The noise schedule.

    Raises:
        ModelMissingError: the file is absent or broken, or for another scheduler.
    """
    return files.read_settings(_SOLVER, SolverConfig)
