"""Finds the files of a Stable Audio 3 model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from atelier_engines.audio_diffusion.model_folder import ModelFolder, find_folder
from atelier_engines.stable_audio_3.config import StableAudio3Config

_PARTS = ("text_encoder", "duration_embedder", "transformer", "vae")
_SCHEDULER = "scheduler/scheduler_config.json"


class SchedulerConfig(BaseModel, frozen=True):
    """The content of `scheduler_config.json`, as far as it matters here; the defaults are those of diffusers."""

    class_name: Literal["FlowMatchEulerDiscreteScheduler"] = Field(alias="_class_name")
    num_train_timesteps: int = 1000
    shift: float = Field(default=1.0, ge=1.0, le=1.0)
    """Given noise levels would be shifted again, or changed by what follows."""
    shift_terminal: None = None
    use_dynamic_shifting: Literal[False] = False
    use_karras_sigmas: Literal[False] | None = False
    use_exponential_sigmas: Literal[False] | None = False
    use_beta_sigmas: Literal[False] | None = False
    invert_sigmas: Literal[False] = False
    stochastic_sampling: bool = False
    """Whether each step adds new noise, as the distilled model was trained to."""


def find_files(config: StableAudio3Config) -> ModelFolder:
    """The files that a configuration names, downloaded where that is needed and allowed.

    Raises:
        ModelMissingError: one is absent or broken.
    """
    others = (_SCHEDULER, "tokenizer/*.json", "tokenizer/tokenizer.model")
    return find_folder(config.model, _PARTS, others, download=config.download)


def read_scheduler(files: ModelFolder) -> SchedulerConfig:
    """The settings of the scheduler.

    Raises:
        ModelMissingError: the file is absent or broken, or for another scheduler.
    """
    return files.read_settings(_SCHEDULER, SchedulerConfig)
