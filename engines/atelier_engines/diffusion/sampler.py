"""One picture's way from noise to latents, between two runs of the denoiser.

Knows the scheduler and the guidance, and runs no network: whoever drives it may gather the rows of
several pictures, each at its own step, into one run.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch

from atelier_engines.diffusion.initial_latents import InitialLatents, InpaintBlend
from atelier_engines.diffusion.schedulers import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """What the denoiser is to be run on next."""

    latents: torch.Tensor
    """(rows, channels, height, width) in latent cells; with guidance the unguided row is first."""
    timesteps: torch.Tensor
    """(rows,)."""


class Sampler:
    """The state of one picture: its latents, its scheduler and its random numbers.

    The order of the operations is that of the loops in diffusers' pipelines (0.42.1), so that the
    results are the same to the bit.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        start: InitialLatents,
        guidance: float,
        generator: torch.Generator,
    ) -> None:
        """Go on from `start`, with the scheduler and the random numbers that it was made with."""
        self._scheduler = scheduler
        self._guidance = guidance
        self._start = start
        self._latents = start.latents
        self._timesteps = scheduler.timesteps[start.skipped_steps * scheduler.order :]
        self._calls_done = 0
        self._extra = _step_arguments(scheduler, generator)

    @property
    def steps(self) -> int:
        """Steps to the finished latents; one step of a second-order scheduler is two runs."""
        return math.ceil(len(self._timesteps) / self._scheduler.order)

    @property
    def steps_done(self) -> int:
        """Whole steps behind us."""
        if self.is_finished:
            return self.steps
        return self._calls_done // self._scheduler.order

    @property
    def calls(self) -> int:
        """Runs of the denoiser from start to end."""
        return len(self._timesteps)

    @property
    def calls_done(self) -> int:
        """Runs of the denoiser behind us."""
        return self._calls_done

    @property
    def is_finished(self) -> bool:
        """Whether no run is left."""
        return self._calls_done == len(self._timesteps)

    @property
    def latents(self) -> torch.Tensor:
        """(1, channels, height, width): where the picture stands, noise and all."""
        return self._latents

    def model_input(self) -> ModelInput:
        """What the denoiser is to be run on next; two rows with guidance above 1, else one."""
        timestep = self._timesteps[self._calls_done]
        count = 2 if is_guided(self._guidance) else 1
        scaled = self._scheduler.scale_model_input(_repeat(self._latents, count), timestep)
        if self._start.mask_channels is not None:
            scaled = torch.cat([scaled, _repeat(self._start.mask_channels, count)], dim=1)
        return ModelInput(latents=scaled, timesteps=timestep.expand(count))

    def step(self, prediction: torch.Tensor) -> torch.Tensor:
        """Go on by one run, and return the prediction after guidance, (1, channels, …).

        `prediction` is what the denoiser made of `rows()`.
        """
        if is_guided(self._guidance):
            without, with_text = prediction.chunk(2)
            prediction = without + self._guidance * (with_text - without)
        self._latents = self._scheduler.step(
            prediction,
            self._timesteps[self._calls_done],
            self._latents,
            **self._extra,
            return_dict=False,
        )[0]
        self._calls_done += 1
        if self._start.blend is not None:
            self._blend(self._start.blend)
        return prediction

    def _blend(self, kept: InpaintBlend) -> None:
        """Lay the part to keep over the latents, with the noise that is due."""
        latents = kept.latents
        if not self.is_finished:
            due = self._timesteps[self._calls_done].reshape(1)
            latents = self._scheduler.add_noise(latents, kept.noise, due)
        self._latents = (1 - kept.mask) * latents + kept.mask * self._latents

    def predict_x0(self, rows: ModelInput, prediction: torch.Tensor) -> torch.Tensor:
        """What the finished latents look like from here, (1, channels, height, width), float32.

        `rows` and `prediction` are those of the last `advance`. Whatever the scheduler keeps, its
        scaled input is sqrt(a) clean + sqrt(1 - a) noise, with `a` the share of signal left.

        Source: "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 9, for noise;
        "Progressive Distillation" (arXiv 2202.00512), appendix D, for velocity.
        """
        noisy = rows.latents[-1:, : prediction.shape[1]].float()
        guess = prediction.float()
        signal = self._alpha_cumprod(rows.timesteps[-1])
        match self._scheduler.config["prediction_type"]:
            case "v_prediction":
                return math.sqrt(signal) * noisy - math.sqrt(1 - signal) * guess
            case "sample":
                return guess
            case _:
                return (noisy - math.sqrt(1 - signal) * guess) / math.sqrt(signal)

    def _alpha_cumprod(self, timestep: torch.Tensor) -> float:
        shares = self._scheduler.alphas_cumprod
        nearest = min(max(round(float(timestep)), 0), len(shares) - 1)
        return max(float(shares[nearest]), 1e-6)


def is_guided(guidance: float) -> bool:
    """Whether the denoiser is also run without the prompt; at 1 and below that has no effect."""
    return guidance > 1


def _repeat(tensor: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat([tensor] * count) if count > 1 else tensor


def _step_arguments(scheduler: Scheduler, generator: torch.Generator) -> dict[str, Any]:
    """What only some schedulers take: random numbers of their own, and DDIM's share of them."""
    known = inspect.signature(scheduler.step).parameters
    extra = {"eta": 0.0, "generator": generator}
    return {name: value for name, value in extra.items() if name in known}
