"""The sampling of one clip: its noise, its scheduler, its guidance."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from atelier_engines.local.step_scheduler import StepScheduler

_ROUNDING = 1e-6
"""By how much a share of noise in 32 bits may be more than the same decimal."""


class SamplingScheduler(Protocol):
    """A scheduler of diffusers that nobody else uses: it counts its steps."""

    @property
    def timesteps(self) -> torch.Tensor:
        """The time of each step."""

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin with the step of that index."""

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
        *,
        generator: torch.Generator,
        return_dict: bool,
    ) -> tuple[torch.Tensor, ...]:
        """The sample at the next time, as the first of a tuple."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSchedule:
    """A fresh scheduler, set to a number of steps."""

    scheduler: SamplingScheduler
    """Of this clip alone."""
    noise: tuple[float, ...]
    """Standard deviation of the noise before each step, and after the last."""
    signal: tuple[float, ...]
    """By what the clip itself is multiplied there."""
    scale_input: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    """Scales latents at a time before the model gets them; None where they stay as they are."""

    def find_first_step(self, strength: float) -> int:
        """Index of the first step before which noise has at most the share `strength`, 0 to 1; the last one but for 0.

        A strength of 0 leaves no step.
        """
        last = len(self.noise) - 1
        shares = (
            noise / (noise + signal) for noise, signal in zip(self.noise, self.signal, strict=True)
        )
        first = next(index for index, share in enumerate(shares) if share <= strength + _ROUNDING)
        return min(first, last - 1) if strength else last


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialLatents:
    """What a clip begins with instead of noise alone."""

    draw: Callable[[torch.Generator], torch.Tensor]
    """Its latents, as the model lays them out; where they are drawn from a distribution, by the generator."""
    strength: float
    """Share of noise that they begin with, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLatents:
    """The first latents of a clip, which stay as they are while the others are made."""

    draw: Callable[[torch.Generator], torch.Tensor]
    """See InitialLatents.draw; fewer than the clip has."""
    axis: int
    """The axis along which the clip's latents follow each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """Latents for the denoiser."""

    latents: torch.Tensor
    """(rows, …), as the model's latents are laid out."""
    timesteps: torch.Tensor
    """(rows,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What the denoiser is told of prompt and duration."""

    rows: Mapping[str, torch.Tensor]
    """By the name of the denoiser's argument: (rows, …). With guidance, the first row is the unconditional one."""

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """The shape of one row of each."""
        return tuple(tensor.shape[1:] for tensor in self.rows.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseRequest:
    """One clip's request for the next run of the denoiser; see BatchableRequest."""

    inputs: ModelInput
    """Scaled by the clip's scheduler."""
    conditioning: Conditioning
    """A row for each row of latents."""

    @property
    def key(self) -> Hashable:
        """Requests of one key have the same shapes: padding would change what a text says."""
        return (self.inputs.latents.shape[1:], *self.conditioning.shapes)

    @property
    def size(self) -> tuple[int, ...]:
        """Numbers in one row of latents."""
        return (self.inputs.latents[0].numel(),)

    def __len__(self) -> int:
        """Number of rows: two with guidance, else one."""
        return len(self.inputs.latents)


DenoiseScheduler = StepScheduler[DenoiseRequest, torch.Tensor]
"""Runs the denoiser for the clips of all tasks."""


def collate(requests: Sequence[DenoiseRequest]) -> tuple[ModelInput, Conditioning]:
    """Concatenate the rows of all requests, which are of one key."""
    if len(requests) == 1:
        return requests[0].inputs, requests[0].conditioning
    inputs = ModelInput(
        latents=torch.cat([request.inputs.latents for request in requests]),
        timesteps=torch.cat([request.inputs.timesteps for request in requests]),
    )
    names = requests[0].conditioning.rows
    rows = {
        name: torch.cat([request.conditioning.rows[name] for request in requests]) for name in names
    }
    return inputs, Conditioning(rows=rows)


class Sampler:
    """Takes one clip from noise to its final latents, step by step."""

    def __init__(
        self,
        schedule: NoiseSchedule,
        shape: tuple[int, ...],
        *,
        guidance: float,
        generator: torch.Generator,
        device: torch.device,
        initial: InitialLatents | GivenLatents | None = None,
    ) -> None:
        """Begin with noise of that shape, one row, from the generator on the CPU: equal on every device.

        `InitialLatents` are mixed into the noise, and the steps that begin with more of it are left out. Before each
        step, `GivenLatents` have its share of the noise that they began with; after the last one none.
        """
        noise = torch.randn(shape, generator=generator, dtype=torch.float32).to(device)
        first = 0
        self._schedule = schedule
        self._given: _Given | None = None
        if isinstance(initial, InitialLatents):
            first = schedule.find_first_step(initial.strength)
            schedule.scheduler.set_begin_index(first)
        self.latents = noise * schedule.noise[first]
        if isinstance(initial, InitialLatents):
            self.latents += initial.draw(generator) * schedule.signal[first]
        elif initial is not None:
            self._given = _Given(initial.draw(generator), noise, initial.axis)
            self.latents = self._given.put_into(self.latents, schedule, first)
        self._times = schedule.scheduler.timesteps
        self._guidance = guidance
        self._generator = generator
        self._rows = 2 if is_guided(guidance) else 1
        self._first = self._done = first

    @property
    def steps(self) -> int:
        """Number of all steps that it takes."""
        return len(self._times) - self._first

    @property
    def is_finished(self) -> bool:
        """Whether `latents` are the final ones."""
        return self._done == len(self._times)

    def model_input(self) -> ModelInput:
        """What the denoiser gets for the next step."""
        time, latents = self._times[self._done], self.latents
        if self._schedule.scale_input is not None:
            latents = self._schedule.scale_input(latents, time)
        rows = self._rows
        return ModelInput(latents=torch.cat([latents] * rows), timesteps=time.repeat(rows))

    def step(self, prediction: torch.Tensor) -> None:
        """Advance by the prediction for `model_input`.

        Source: Ho and Salimans, Classifier-Free Diffusion Guidance (2022), as diffusers writes it.
        """
        if self._rows > 1:
            free, told = prediction.chunk(2)
            prediction = free + self._guidance * (told - free)
        self.latents = self._schedule.scheduler.step(
            prediction,
            self._times[self._done],
            self.latents,
            generator=self._generator,
            return_dict=False,
        )[0]
        self._done += 1
        if self._given is not None:
            self.latents = self._given.put_into(self.latents, self._schedule, self._done)


class _Given:
    """The first latents of a clip, and the noise that they began with.

    Source: Lugmayr et al., Inpainting using Denoising Diffusion Probabilistic Models (2022), without its resampling;
    with one noise for all steps, as diffusers' pipelines for inpainting do it.
    """

    def __init__(self, latents: torch.Tensor, noise: torch.Tensor, axis: int) -> None:
        self._latents = latents
        self._noise = noise.narrow(axis, 0, latents.shape[axis])
        self._axis = axis

    def put_into(self, latents: torch.Tensor, schedule: NoiseSchedule, step: int) -> torch.Tensor:
        """The latents before a step, or after the last one, with those that are given at their beginning."""
        axis, count = self._axis, self._latents.shape[self._axis]
        given = self._latents * schedule.signal[step] + self._noise * schedule.noise[step]
        rest = latents.narrow(axis, count, latents.shape[axis] - count)
        return torch.cat([given, rest], dim=axis)


def is_guided(guidance: float) -> bool:
    """Whether a guidance needs the unconditional row: up to 1 it would have no effect."""
    return guidance > 1.0
