"""The solver that Stable Audio Open was published with, with noise from the task's seed.

diffusers' own class of that name takes its noise from a tree of torchsde. Over steps that follow each other that noise
is independent and normal, as the generator's is; only the numbers differ.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import EDMDPMSolverMultistepScheduler

from atelier_engines.audio_diffusion.sampling import SamplingScheduler
from atelier_engines.stable_audio.model_folder import SolverConfig


class CosineSolver(EDMDPMSolverMultistepScheduler):  # type: ignore[misc]  # diffusers' classes have no types here
    """DPM-Solver++ of the second order, stochastic, for models that are told the angle of a noise level.

    Source: diffusers 0.42.1, scheduling_cosine_dpmsolver_multistep.py, which is the same but for noise and angle.
    """

    def precondition_noise(self, sigma: torch.Tensor) -> torch.Tensor:
        """The angle of a noise level: 0 without noise, 1 without anything else."""
        return sigma.atan() / math.pi * 2


def create_solver(config: SolverConfig) -> CosineSolver:
    """A fresh solver."""
    values = config.model_dump(exclude={"class_name"})
    return CosineSolver(algorithm_type="sde-dpmsolver++", **values)


def as_scheduler(solver: CosineSolver) -> SamplingScheduler:
    """The solver as a sampler uses it."""
    return cast("SamplingScheduler", solver)
