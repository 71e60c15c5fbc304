"""A request for the denoiser, and how the rows of several requests become one run of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from atelier_engines.diffusion.controls.residuals import ControlInput
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.diffusion.sampler import ModelInput
from atelier_engines.local.step_scheduler import StepScheduler
from atelier_engines.task import Lora


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiseRequest:
    """One image's request for the next run of the denoiser; see BatchableRequest."""

    runtime: Runtime
    """Runs the denoiser."""
    inputs: ModelInput
    """Latents and time steps, scaled by the image's scheduler."""
    conditioning: Conditioning
    """A row for each row of latents."""
    loras: tuple[Lora, ...] = ()
    """Active in the denoiser while it runs."""
    controls: tuple[ControlInput, ...] = ()
    """ControlNet inputs of all its rows."""

    @property
    def key(self) -> Hashable:
        """Requests of one key may share a run: same shapes, same weights."""
        shapes = (self.inputs.latents.shape[1:], self.conditioning.hidden.shape[1:])
        return (id(self.runtime), *shapes, self.loras)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in latent pixels."""
        height, width = self.inputs.latents.shape[-2:]
        return height, width

    def __len__(self) -> int:
        """Number of rows: two with guidance, else one."""
        return len(self.inputs.latents)


DenoiseScheduler = StepScheduler[DenoiseRequest, torch.Tensor]
"""Runs the denoiser for the images of all tasks."""


def collate(requests: Sequence[DenoiseRequest]) -> tuple[ModelInput, Conditioning]:
    """Concatenate the rows of all requests; those of a single request stay as they are."""
    if len(requests) == 1:
        return requests[0].inputs, requests[0].conditioning
    inputs = ModelInput(
        latents=torch.cat([request.inputs.latents for request in requests]),
        timesteps=torch.cat([request.inputs.timesteps for request in requests]),
    )
    conditioning = Conditioning(
        hidden=torch.cat([request.conditioning.hidden for request in requests]),
        pooled=_concatenate([request.conditioning.pooled for request in requests]),
        time_ids=_concatenate([request.conditioning.time_ids for request in requests]),
    )
    return inputs, conditioning


def _concatenate(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def split(prediction: torch.Tensor, requests: Sequence[DenoiseRequest]) -> tuple[torch.Tensor, ...]:
    """Split the prediction for `collate(requests)` into one part for each request."""
    rows = [len(request) for request in requests]
    parts: tuple[torch.Tensor, ...] = torch.split(prediction, rows)
    return parts
