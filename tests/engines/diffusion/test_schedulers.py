"""Schedulers by their names, and what a model's own is called."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from atelier_engines.diffusion import schedulers
from atelier_engines.diffusion.config import SchedulerName
from atelier_engines.errors import InvalidTaskError, UnsupportedError

CPU = torch.device("cpu")


def model(prediction: str = "epsilon") -> EulerDiscreteScheduler:
    """The scheduler that a model brings along."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        timestep_spacing="trailing",
    )


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_a_scheduler_is_known_by_the_name_it_was_made_by(name: SchedulerName) -> None:
    """So that a model's own one is offered as the default."""
    assert schedulers.find_name(schedulers.build(name, model(), steps=4, device=CPU)) == name


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (PNDMScheduler(skip_prk_steps=True), "pndm"),
        (PNDMScheduler(), "PNDMScheduler"),
        (DDIMScheduler(clip_sample=False), "ddim"),
        (DDIMScheduler(), "DDIMScheduler"),
        (UniPCMultistepScheduler(), "unipc"),
    ],
)
def test_only_what_is_the_same_has_the_name(own: SchedulerMixin, name: str) -> None:
    """What published models bring: Stable Diffusion 1.5 has PNDM without its slow first steps."""
    assert schedulers.find_name(own) == name


@pytest.mark.parametrize("name", schedulers.NAMES)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 50])
def test_every_scheduler_comes_to_an_end(name: SchedulerName, steps: int) -> None:
    """In whatever number of steps, with finite numbers."""
    scheduler = schedulers.build(name, model("v_prediction"), steps=steps, device=CPU)
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    latents = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(seen.tanh(), timestep, latents, return_dict=False)[0]
    assert torch.isfinite(latents).all()


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_latents_are_not_cut_off_at_one(name: str) -> None:
    """Whatever the model's configuration leaves unsaid."""
    scheduler = schedulers.build(name, model("sample"), steps=1, device=CPU)
    wanted = torch.full((1, 4, 8, 8), 3.0)
    made = scheduler.step(wanted, scheduler.timesteps[0], wanted * 0, return_dict=False)[0]
    assert made.max() > 2


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    """Lightning's users know another spelling."""
    with pytest.raises(UnsupportedError, match=r"^scheduler must be one of euler, euler_a"):
        schedulers.build("Euler a", model(), steps=4, device=CPU)


@pytest.mark.parametrize("name", ["lcm", "tcd"])
def test_more_steps_than_a_scheduler_can_are_refused(name: str) -> None:
    """Those of distilled models have fifty to choose from."""
    with pytest.raises(InvalidTaskError, match=f"{name} does not support 51 steps"):
        schedulers.build(name, model(), steps=51, device=CPU)


@pytest.mark.parametrize("name", sorted(schedulers.EPSILON_ONLY))
def test_what_diffusers_left_out_is_refused_before_any_step(name: str) -> None:
    """Models that predict clean latents are rare."""
    with pytest.raises(UnsupportedError, match=r"predicts latents .*; scheduler must be one of"):
        schedulers.build(name, model("sample"), steps=4, device=CPU)


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_the_spacing_of_timesteps_may_be_chosen_where_it_has_an_effect(name: SchedulerName) -> None:
    """For one image; the model's own stays as it is."""
    own = model()
    if name in {"lcm", "tcd", "dpmpp_sde"} or name.endswith("karras"):
        return  # see below
    leading = schedulers.build(name, own, steps=4, device=CPU, spacing="leading")
    trailing = schedulers.build(name, own, steps=4, device=CPU)
    assert leading.timesteps[0] < trailing.timesteps[0]
    assert own.config["timestep_spacing"] == "trailing"


@pytest.mark.parametrize("name", ["lcm", "dpmpp_sde", "dpmpp_2m_karras", "EDMEulerScheduler"])
def test_a_scheduler_without_a_choice_of_the_spacing_says_so(name: str) -> None:
    """Most of them take the setting, and ignore it."""
    own = EDMEulerScheduler() if name == "EDMEulerScheduler" else model()
    with pytest.raises(InvalidTaskError, match=f"{name} has no choice"):
        schedulers.build(name, own, steps=4, device=CPU, spacing="leading")
