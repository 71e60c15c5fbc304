"""Batches of the denoiser: what an image requests, how requests share a run, and how large a run may be."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from atelier_engines.diffusion.controls.residuals import ControlInput
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.diffusion.sampler import ModelInput
from atelier_engines.local.step_scheduler import StepScheduler
from atelier_engines.task import Lora

_CUDA_LATENT_PIXELS = 8 * 1024 * 1024 // 64
"""Latent pixels in one run: eight images of 1024 x 1024, without guidance. A larger run gains little, since
one such image saturates a large GPU; smaller images gain up to threefold.
"""
_CUDA_ROWS = 32


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
        shapes = (self.inputs.latents.shape[1:], self.conditioning.prompt_embeds.shape[1:])
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
        prompt_embeds=torch.cat([request.conditioning.prompt_embeds for request in requests]),
        pooled_prompt_embeds=_concatenate(
            [request.conditioning.pooled_prompt_embeds for request in requests]
        ),
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


class BatchLimit(Protocol):
    """The maximum number of rows of a run of the denoiser."""

    @property
    def always_one(self) -> bool:
        """Whether no two images ever share a run, so that results are bit-exact."""

    def __call__(self, height: int, width: int) -> int:
        """The maximum number of rows of that size in latent pixels; a single request may have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLimit:
    """The same limit for all sizes."""

    rows: int

    @property
    def always_one(self) -> bool:
        """See BatchLimit.always_one."""
        return self.rows == 1

    def __call__(self, height: int, width: int) -> int:
        """See BatchLimit."""
        del height, width
        return self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentBudget:
    """A limit on the latent pixels of all rows together."""

    latent_pixels: int

    @property
    def always_one(self) -> bool:
        """See BatchLimit.always_one."""
        return False

    def __call__(self, height: int, width: int) -> int:
        """See BatchLimit."""
        return max(1, min(_CUDA_ROWS, self.latent_pixels // (height * width)))


class MeasuredSize(Protocol):
    """The result of `atelier tune` for one size."""

    @property
    def latent_pixels(self) -> int:
        """Latent pixels of one row."""

    @property
    def batch_size(self) -> int:
        """The best number of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLimit:
    """The limit that was best for the smallest measured size that is at least as large."""

    records: Sequence[MeasuredSize]
    """One for each measured size; at least one."""

    @property
    def always_one(self) -> bool:
        """See BatchLimit.always_one."""
        return all(record.batch_size == 1 for record in self.records)

    def __call__(self, height: int, width: int) -> int:
        """See BatchLimit. Sizes above all measured ones get the same number of latent pixels in total."""
        pixels = height * width
        larger = [record for record in self.records if record.latent_pixels >= pixels]
        if larger:
            return min(larger, key=lambda record: record.latent_pixels).batch_size
        largest = max(self.records, key=lambda record: record.latent_pixels)
        return max(1, largest.batch_size * largest.latent_pixels // pixels)


def choose_limit(
    max_batch: int | None, device: str, measured: Sequence[MeasuredSize]
) -> BatchLimit:
    """The configured limit, else the measured one, else the default of the device.

    The default of a CPU is one image at a time: it keeps the threads busy, and a batch changes the last bits.

    Args:
        max_batch: maximum number of rows, where it is configured.
        device: `cpu` or `cuda`.
        measured: results of `atelier tune`.
    """
    if max_batch is not None:
        return FixedLimit(rows=max_batch)
    if measured:
        return MeasuredLimit(records=measured)
    return (
        FixedLimit(rows=1) if device == "cpu" else LatentBudget(latent_pixels=_CUDA_LATENT_PIXELS)
    )
