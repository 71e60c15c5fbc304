"""Finds the files of a Stable Audio Open model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header, sources
from atelier_engines.stable_audio.config import StableAudioConfig

PARTS = ("text_encoder", "projection_model", "transformer", "vae")
"""The components that have weights."""
_PATTERNS = (
    *(
        f"{part}/{name}"
        for part in PARTS
        for name in ("config.json", "*.safetensors", "*.index.json")
    ),
    "scheduler/scheduler_config.json",
    "tokenizer/*.json",
    "tokenizer/spiece.model",
)
"""The original layout lies beside these on the hub, and would be downloaded for nothing."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StableAudioFiles:
    """The files of one model."""

    folder: Path
    """Has a folder for each component."""
    solver: SolverConfig
    """The noise schedule."""

    def list_weights(self, part: str) -> tuple[Path, ...]:
        """The weights of a component."""
        return tuple(sorted((self.folder / part).glob(f"*{sources.SAFETENSORS_SUFFIX}")))

    @property
    def weights(self) -> tuple[Path, ...]:
        """The weights of all components."""
        return tuple(sorted(path for part in PARTS for path in self.list_weights(part)))

    def digest(self) -> str:
        """SHA-256 over the weights; takes as long as reading them."""
        return digests.digest_folder(self.folder, self.weights)


def find_files(config: StableAudioConfig) -> StableAudioFiles:
    """The files that a configuration names, downloaded where that is needed and allowed.

    Raises:
        ModelMissingError: one is absent or broken.
    """
    folder = sources.resolve_folder(config.model, _PATTERNS, download=config.download)
    found = StableAudioFiles(
        folder=folder, solver=_read_solver(folder / "scheduler" / "scheduler_config.json")
    )
    for part in PARTS:
        if not found.list_weights(part):
            raise ModelMissingError(
                f"there are no {sources.SAFETENSORS_SUFFIX} weights in {folder / part}"
            )
    for path in found.weights:
        safetensors_header.read(path)
    return found


def _read_solver(path: Path) -> SolverConfig:
    """The noise schedule.

    Raises:
        ModelMissingError: the file is absent or broken, or for another scheduler.
    """
    try:
        return SolverConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelMissingError(f"{path} is not usable: {where} {first['msg']}") from error
