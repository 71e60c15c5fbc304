"""Schedulers under their common names, as classes of diffusers with settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast, get_args

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_deis_multistep import DEISMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_k_dpm_2_ancestral_discrete import (
    KDPM2AncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_k_dpm_2_discrete import KDPM2DiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from atelier_engines.diffusion.config import SchedulerName, TimestepSpacing
from atelier_engines.errors import InvalidTaskError, UnsupportedError

NAMES: Final[tuple[SchedulerName, ...]] = get_args(SchedulerName)


class Scheduler(Protocol):
    """The interface of diffusers' schedulers that is used here."""

    order: int
    """Runs of the denoiser in one step."""
    init_noise_sigma: float | torch.Tensor
    """Standard deviation of the initial noise; valid after `set_timesteps`."""
    timesteps: torch.Tensor
    """(runs,): the time step of each run of the denoiser, the noisiest first; valid after `set_timesteps`."""
    alphas_cumprod: torch.Tensor
    """(training steps,): the cumulative product of alphas, the fraction of signal variance."""

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that it was created with."""

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Set the time steps of the denoiser's runs."""

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Scale latents for the denoiser."""

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Add the noise of a time step to latents."""

    # Its arguments differ between schedulers.
    step: Any
    """Apply one prediction of the denoiser to latents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A class of diffusers, with the settings of one scheduler."""

    scheduler: type[ConfigMixin]
    settings: Mapping[str, bool | int | str] = field(default_factory=dict)


_SPACINGS: Final[tuple[TimestepSpacing, ...]] = get_args(TimestepSpacing)

_Settings = Mapping[str, bool | int | str]

_LATENT: Final[_Settings] = {"clip_sample": False}
"""These schedulers were made for pixels, which are at most 1; latents are not."""

_DPMPP: Final[_Settings] = {"algorithm_type": "dpmsolver++", "solver_order": 2}

_DPMPP_SDE: Final[_Settings] = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}

_SINGLE_STEP: Final[_Settings] = {**_DPMPP_SDE, "lower_order_final": True}
"""The last step is of first order, since it ends without noise."""

_EVEN: Final[_Settings] = {"use_karras_sigmas": False}

_KARRAS: Final[_Settings] = {"use_karras_sigmas": True}

_KINDS: Final[Mapping[SchedulerName, _Kind]] = {
    "euler": _Kind(scheduler=EulerDiscreteScheduler),
    "euler_a": _Kind(scheduler=EulerAncestralDiscreteScheduler),
    "heun": _Kind(scheduler=HeunDiscreteScheduler),
    "ddim": _Kind(scheduler=DDIMScheduler, settings=_LATENT),
    "ddpm": _Kind(scheduler=DDPMScheduler, settings=_LATENT),
    "pndm": _Kind(scheduler=PNDMScheduler, settings={"skip_prk_steps": True}),
    "dpm2": _Kind(scheduler=KDPM2DiscreteScheduler),
    "dpm2_a": _Kind(scheduler=KDPM2AncestralDiscreteScheduler),
    "dpmpp_2m": _Kind(scheduler=DPMSolverMultistepScheduler, settings={**_DPMPP, **_EVEN}),
    "dpmpp_2m_karras": _Kind(scheduler=DPMSolverMultistepScheduler, settings={**_DPMPP, **_KARRAS}),
    "dpmpp_2m_sde": _Kind(scheduler=DPMSolverMultistepScheduler, settings={**_DPMPP_SDE, **_EVEN}),
    "dpmpp_2m_sde_karras": _Kind(
        scheduler=DPMSolverMultistepScheduler, settings={**_DPMPP_SDE, **_KARRAS}
    ),
    "dpmpp_sde": _Kind(scheduler=DPMSolverSinglestepScheduler, settings={**_SINGLE_STEP, **_EVEN}),
    "dpmpp_sde_karras": _Kind(
        scheduler=DPMSolverSinglestepScheduler, settings={**_SINGLE_STEP, **_KARRAS}
    ),
    "deis": _Kind(scheduler=DEISMultistepScheduler),
    "unipc": _Kind(scheduler=UniPCMultistepScheduler),
    "lcm": _Kind(scheduler=LCMScheduler),
    "tcd": _Kind(scheduler=TCDScheduler),
}

EPSILON_ONLY: Final[frozenset[SchedulerName]] = frozenset(
    {"euler_a", "heun", "pndm", "dpm2", "dpm2_a"}
)
"""Schedulers that diffusers implements only for denoisers that predict noise or velocity, not latents."""


CLASSES: Final[frozenset[type[ConfigMixin]]] = frozenset(kind.scheduler for kind in _KINDS.values())
"""The classes of all named schedulers."""


def list_names(model: Scheduler) -> tuple[str, ...]:
    """The schedulers that a model supports, its own first.

    That has the name of its class where no common name means the same settings. A model with the
    continuous noise of EDM supports no other, since all others have the noise of discrete steps.
    """
    own = find_name(model)
    if is_edm(model):
        return (own,)
    return (own, *(name for name in NAMES if name != own and _find_conflict(name, model) is None))


def is_edm(model: Scheduler) -> bool:
    """Whether a model was trained with continuous noise ("EDM", arXiv 2206.00364)."""
    return "sigma_data" in model.config


def _find_conflict(name: SchedulerName, model: Scheduler) -> str | None:
    """Why a scheduler cannot be used with a model; None if it can."""
    if is_edm(model):
        return "this model was trained with continuous noise (EDM)"
    if name in EPSILON_ONLY and model.config["prediction_type"] == "sample":
        return "this model predicts latents (prediction_type sample)"
    known = inspect.signature(_KINDS[name].scheduler.__init__).parameters
    if model.config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in known:
        return "this model has zero terminal SNR"
    return None


def build(
    name: str,
    model: Scheduler,
    *,
    steps: int,
    device: torch.device,
    spacing: TimestepSpacing | None = None,
) -> Scheduler:
    """Create a scheduler for one image, set to `steps`, with the noise schedule of the model's own.

    Args:
        name: one of `list_names`.
        model: the model's own scheduler.
        steps: denoising steps.
        device: where its tensors are.
        spacing: how the timesteps are spaced; None for the model's own.

    Raises:
        UnsupportedError: there is none of that name, or it does not support the model.
        InvalidTaskError: it does not support that number of steps, or has no choice of the spacing.
    """
    made = _create(name, model)
    try:
        if spacing is not None:
            made = _space(name, made, spacing, steps=steps, device=device)
        made.set_timesteps(steps, device=device)
    except ValueError as error:
        raise InvalidTaskError(
            "steps", f"{name} does not support {steps} steps: {error}"
        ) from error
    return made


def _space(
    name: str, made: Scheduler, spacing: TimestepSpacing, *, steps: int, device: torch.device
) -> Scheduler:
    """The scheduler with that spacing, if it has any effect: many take the setting and ignore it."""
    kind: Any = type(made)
    config = made.config
    spaced = {one: kind.from_config(config, timestep_spacing=one) for one in _SPACINGS}
    for one in spaced.values():
        one.set_timesteps(steps, device=device)
    if len({tuple(one.timesteps.tolist()) for one in spaced.values()}) == 1:
        message = f"omit options.timestep_spacing: {name} has no choice of it"
        raise InvalidTaskError("options.timestep_spacing", message)
    return cast("Scheduler", spaced[spacing])


def _create(name: str, model: Scheduler) -> Scheduler:
    own: Any = type(model)
    if name == own.__name__:
        return cast("Scheduler", own.from_config(model.config))
    known = next((one for one in NAMES if one == name), None)
    conflict = None if known is None else _find_conflict(known, model)
    if known is None or conflict is not None:
        reason = "" if conflict is None else f"{conflict}; "
        raise UnsupportedError(
            "scheduler", f"{reason}scheduler must be one of {', '.join(list_names(model))}"
        )
    kind = _KINDS[known]
    return cast("Scheduler", kind.scheduler.from_config(model.config, **kind.settings))


def find_name(model: Scheduler) -> str:
    """The name of a model's own scheduler: a common one, or that of its class."""
    for name, kind in _KINDS.items():
        same = all(model.config.get(key) == value for key, value in kind.settings.items())
        if type(model) is kind.scheduler and same:
            return name
    return type(model).__name__
