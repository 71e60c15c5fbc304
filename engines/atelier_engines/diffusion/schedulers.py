"""Schedulers by the names people know, on top of diffusers' classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast, get_args

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from atelier_engines.diffusion.config import SchedulerName
from atelier_engines.errors import InvalidTaskError, UnsupportedError

NAMES: Final[tuple[SchedulerName, ...]] = get_args(SchedulerName)


class Scheduler(Protocol):
    """What all schedulers of diffusers have, and what is used of them here."""

    order: int
    """Runs of the denoiser in one step."""
    init_noise_sigma: float | torch.Tensor
    """Standard deviation of the noise to begin with; known once the steps are set."""
    timesteps: torch.Tensor
    """(runs,): when the denoiser is run, the noisiest first; known once the steps are set."""
    alphas_cumprod: torch.Tensor
    """(training steps,): the share of signal variance left at each time step."""

    @property
    def config(self) -> dict[str, Any]:
        """Everything that it was made with."""

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Decide when to run the denoiser."""

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Latents as the denoiser wants them."""

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Latents with the noise over them that is due at a time step."""

    # Its arguments differ between schedulers.
    step: Any
    """Go on by one run of the denoiser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A class of diffusers, and what makes it the scheduler of that name."""

    scheduler: type[ConfigMixin]
    settings: Mapping[str, bool | int | str] = field(default_factory=dict)


_DPMPP_2M: Final[Mapping[str, bool | int | str]] = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
}

_KINDS: Final[Mapping[SchedulerName, _Kind]] = {
    "euler": _Kind(scheduler=EulerDiscreteScheduler),
    "euler_a": _Kind(scheduler=EulerAncestralDiscreteScheduler),
    "heun": _Kind(scheduler=HeunDiscreteScheduler),
    "ddim": _Kind(scheduler=DDIMScheduler),
    "dpmpp_2m": _Kind(
        scheduler=DPMSolverMultistepScheduler,
        settings={**_DPMPP_2M, "use_karras_sigmas": False},
    ),
    "dpmpp_2m_karras": _Kind(
        scheduler=DPMSolverMultistepScheduler,
        settings={**_DPMPP_2M, "use_karras_sigmas": True},
    ),
    "unipc": _Kind(scheduler=UniPCMultistepScheduler),
    "lcm": _Kind(scheduler=LCMScheduler),
}


def make(name: str, model: Scheduler, *, steps: int, device: torch.device) -> Scheduler:
    """A new scheduler for one picture, set to `steps`, with the noise schedule of the `model`'s.

    Raises:
        UnsupportedError: there is none of that name.
        InvalidTaskError: it cannot work in so many steps.
    """
    kind = next((kind for known, kind in _KINDS.items() if known == name), None)
    if kind is None:
        raise UnsupportedError("scheduler", f"scheduler must be one of {', '.join(NAMES)}")
    made = cast("Scheduler", kind.scheduler.from_config(model.config, **kind.settings))
    try:
        made.set_timesteps(steps, device=device)
    except ValueError as error:
        raise InvalidTaskError("steps", f"{name} cannot work in {steps} steps: {error}") from error
    return made


def name_of(model: Scheduler) -> SchedulerName | None:
    """What the `model`'s own scheduler is called here; None where it has no name."""
    for name, kind in _KINDS.items():
        same = all(model.config.get(key) == value for key, value in kind.settings.items())
        if type(model) is kind.scheduler and same:
            return name
    return None
