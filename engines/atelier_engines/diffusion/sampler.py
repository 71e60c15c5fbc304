"""Samples one image: makes the initial latents and denoises them, without running the denoiser itself.

The caller runs the denoiser, so it can put the rows of several images, each at its own step, into one run.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch

from atelier_engines.diffusion.families.family import Family, is_guided
from atelier_engines.diffusion.runtimes.base import OnOverflow, ignore_overflow
from atelier_engines.diffusion.schedulers import Scheduler, is_edm
from atelier_engines.task import count_steps_left


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintBlend:
    """The part of an image that inpainting keeps: blended over the latents after each step."""

    latents: torch.Tensor
    """(1, channels, height, width): the encoded image, without noise."""
    noise: torch.Tensor
    """Shaped like `latents`: the noise to add to it."""
    mask: torch.Tensor
    """(1, 1, height, width), 1 where the image is inpainted, 0 where it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialLatents:
    """The latents that denoising starts from, and what image-to-image and inpainting need beside them."""

    latents: torch.Tensor
    """(1, channels, height, width) in latent pixels, noise included."""
    skipped_steps: int = 0
    """Steps of the scheduler that are left out, because denoising starts from an image."""
    blend: InpaintBlend | None = None
    """None where nothing is kept, or where the denoiser takes the mask as channels."""
    mask_channels: torch.Tensor | None = None
    """(1, 5, height, width): mask and masked image, for denoisers that take them as channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInitializer:
    """Makes the initial latents of one image, for a scheduler that is set to its steps."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """The image's own."""
    generator: torch.Generator
    """The image's own random numbers."""
    steps: int
    """Number of steps that the scheduler is set to."""
    tiled: bool = False
    """Whether images are encoded in tiles."""
    on_overflow: OnOverflow = ignore_overflow
    """See Autoencoder.encode."""

    def from_noise(self, width: int, height: int) -> InitialLatents:
        """The initial latents of text-to-image, for an image size in pixels."""
        noise = self._sample_noise(self.family.latent_shape(width, height))
        self._set_begin_index(0)
        return InitialLatents(
            latents=noise * self.scheduler.init_noise_sigma,
            mask_channels=self._full_mask_channels(width, height),
        )

    def from_image(self, image: torch.Tensor, strength: float) -> InitialLatents:
        """The initial latents of image-to-image, from `image`, (1, 3, height, width) of -1 to 1.

        A `strength` of 0 skips all steps, one of 1 skips none.
        """
        skipped = self._skip_steps(strength)
        clean = self._encode(image)
        noise = self._sample_noise(clean.shape)
        height, width = image.shape[-2:]
        return InitialLatents(
            latents=self._add_noise(clean, noise, skipped),
            skipped_steps=skipped,
            mask_channels=self._full_mask_channels(width, height),
        )

    def from_masked(
        self, image: torch.Tensor, mask: torch.Tensor, strength: float
    ) -> InitialLatents:
        """The initial latents of inpainting.

        Args:
            image: (1, 3, height, width) of -1 to 1.
            mask: (1, 1, height, width) in pixels, 1 where the image is inpainted, 0 elsewhere.
            strength: 0 to 1; at 1 nothing of the masked part of `image` is left.
        """
        skipped = self._skip_steps(strength)
        channels = self.family.mask_channels
        clean = None
        if not channels or strength < 1:
            clean = self._encode(image).contiguous()
        noise = self._sample_noise(self.family.latent_shape(image.shape[-1], image.shape[-2]))
        if clean is None or strength == 1:
            latents = noise * self.scheduler.init_noise_sigma
        else:
            latents = self._add_noise(clean, noise, skipped)
        latent_mask = torch.nn.functional.interpolate(mask, size=noise.shape[-2:])
        latent_mask = latent_mask.to(device=noise.device, dtype=noise.dtype)
        if channels:
            masked = self._encode(image * (mask < 0.5))  # noqa: PLR2004 (half of the range 0 to 1)
            return InitialLatents(
                latents=latents,
                skipped_steps=skipped,
                mask_channels=torch.cat([latent_mask, masked], dim=1),
            )
        self._sample_noise(
            noise.shape
        )  # diffusers samples the latents of the masked image here, and drops them
        if clean is None:
            raise TypeError("a model without mask channels encodes the image")
        return InitialLatents(
            latents=latents,
            skipped_steps=skipped,
            blend=InpaintBlend(latents=clean, noise=noise, mask=latent_mask),
        )

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.family.encode(
            image, self.generator, tiled=self.tiled, on_overflow=self.on_overflow
        )

    def _full_mask_channels(self, width: int, height: int) -> torch.Tensor | None:
        """The mask channels of an inpainting model where the whole image is generated."""
        if not self.family.mask_channels:
            return None
        grey = torch.zeros((1, 3, height, width))
        encoded = self.family.encode(
            grey,
            torch.Generator("cpu").manual_seed(0),
            tiled=self.tiled,
            on_overflow=self.on_overflow,
        )
        return torch.cat([torch.ones_like(encoded[:, :1]), encoded], dim=1)

    def _skip_steps(self, strength: float) -> int:
        """The number of steps to skip; the scheduler is set to begin after them."""
        skipped = self.steps - count_steps_left(self.steps, strength)
        self._set_begin_index(skipped * self.scheduler.order)
        return skipped

    def _set_begin_index(self, index: int) -> None:
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(index)

    def _add_noise(self, clean: torch.Tensor, noise: torch.Tensor, skipped: int) -> torch.Tensor:
        first = self.scheduler.timesteps[skipped * self.scheduler.order :][:1]
        if not len(first):  # all steps are skipped
            return clean
        noisy: torch.Tensor = self.scheduler.add_noise(clean, noise, first)
        return noisy

    def _sample_noise(self, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
        runtime = self.family.runtime
        noise = torch.randn(shape, generator=self.generator, dtype=runtime.dtype)
        return noise.to(runtime.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """The input of the denoiser's next run, for one image or for several."""

    latents: torch.Tensor
    """(rows, channels, height, width) in latent pixels; with guidance the unguided row is first."""
    timesteps: torch.Tensor
    """(rows,)."""


class Sampler:
    """The state of one image: its latents, its scheduler and its random numbers.

    The order of the operations is that of the denoising loops in diffusers' pipelines (0.42.1), so that
    the results are bit-identical.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        initial: InitialLatents,
        guidance: float,
        generator: torch.Generator,
    ) -> None:
        """Start at `initial`, with the scheduler and the random numbers that it was made with."""
        self._scheduler = scheduler
        self._guidance = guidance
        self._initial = initial
        self._latents = initial.latents
        self._timesteps = scheduler.timesteps[initial.skipped_steps * scheduler.order :]
        self._calls_done = 0
        self._extra = _step_arguments(scheduler, generator)

    @property
    def steps(self) -> int:
        """Number of steps to the final latents; one step of a second-order scheduler is two runs."""
        return math.ceil(len(self._timesteps) / self._scheduler.order)

    @property
    def steps_done(self) -> int:
        """Number of whole steps that are done."""
        if self.is_finished:
            return self.steps
        return self._calls_done // self._scheduler.order

    @property
    def calls(self) -> int:
        """Number of runs of the denoiser in all steps."""
        return len(self._timesteps)

    @property
    def calls_done(self) -> int:
        """Number of runs of the denoiser that are done."""
        return self._calls_done

    @property
    def is_finished(self) -> bool:
        """Whether no run is left."""
        return self._calls_done == len(self._timesteps)

    @property
    def latents(self) -> torch.Tensor:
        """The current latents, (1, channels, height, width), noise included."""
        return self._latents

    def model_input(self) -> ModelInput:
        """The input of the next run of the denoiser: two rows with guidance above 1, else one."""
        timestep = self._timesteps[self._calls_done]
        count = 2 if is_guided(self._guidance) else 1
        scaled = self._scheduler.scale_model_input(_repeat(self._latents, count), timestep)
        if self._initial.mask_channels is not None:
            scaled = torch.cat([scaled, _repeat(self._initial.mask_channels, count)], dim=1)
        return ModelInput(latents=scaled, timesteps=timestep.expand(count))

    def step(self, prediction: torch.Tensor) -> torch.Tensor:
        """Apply one prediction to the latents, and return it after guidance, (1, channels, …).

        `prediction` is the denoiser's output for `model_input()`.
        """
        if is_guided(self._guidance):
            unconditional, conditional = prediction.chunk(2)
            prediction = unconditional + self._guidance * (conditional - unconditional)
        self._latents = self._scheduler.step(
            prediction,
            self._timesteps[self._calls_done],
            self._latents,
            **self._extra,
            return_dict=False,
        )[0]
        self._calls_done += 1
        if self._initial.blend is not None:
            self._apply_blend(self._initial.blend)
        return prediction

    def _apply_blend(self, blend: InpaintBlend) -> None:
        """Replace the kept part of the latents by the encoded image, with the noise of this step."""
        latents = blend.latents
        if not self.is_finished:
            timestep = self._timesteps[self._calls_done].reshape(1)
            latents = self._scheduler.add_noise(latents, blend.noise, timestep)
        self._latents = (1 - blend.mask) * latents + blend.mask * self._latents

    def predict_x0(self, model_input: ModelInput, prediction: torch.Tensor) -> torch.Tensor:
        """Estimate the final latents from the last prediction, (1, channels, height, width), float32.

        `model_input` and `prediction` are those of the last `step`. Whatever form the scheduler keeps latents
        in, its scaled input is sqrt(a) x0 + sqrt(1 - a) noise, with `a` the cumulative product of alphas.

        Source: "Denoising Diffusion Implicit Models" (arXiv 2010.02502), equation 9, for noise;
        "Progressive Distillation" (arXiv 2202.00512), appendix D, for velocity.
        """
        noisy = model_input.latents[-1:, : prediction.shape[1]].float()
        output = prediction.float()
        if is_edm(self._scheduler):
            return self._predict_x0_of_edm(noisy, output, float(model_input.timesteps[-1]))
        alpha = self._alpha_cumprod(model_input.timesteps[-1])
        match self._scheduler.config["prediction_type"]:
            case "v_prediction":
                return math.sqrt(alpha) * noisy - math.sqrt(1 - alpha) * output
            case "sample":
                return output
            case _:
                return (noisy - math.sqrt(1 - alpha) * output) / math.sqrt(alpha)

    def _predict_x0_of_edm(
        self, scaled: torch.Tensor, output: torch.Tensor, timestep: float
    ) -> torch.Tensor:
        """As `predict_x0`, of models with continuous noise, whose time step is a quarter of its logarithm.

        Source: "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv 2206.00364), table 1.
        """
        sigma, data = math.exp(4 * timestep), self._scheduler.config["sigma_data"]
        length = math.sqrt(sigma**2 + data**2)
        sign = -1 if self._scheduler.config["prediction_type"] == "v_prediction" else 1
        estimate: torch.Tensor = data**2 / length * scaled + sign * sigma * data / length * output
        return estimate

    def _alpha_cumprod(self, timestep: torch.Tensor) -> float:
        alphas = self._scheduler.alphas_cumprod
        nearest = min(max(round(float(timestep)), 0), len(alphas) - 1)
        return max(float(alphas[nearest]), 1e-6)


def _repeat(tensor: torch.Tensor, count: int) -> torch.Tensor:
    return torch.cat([tensor] * count) if count > 1 else tensor


def _step_arguments(scheduler: Scheduler, generator: torch.Generator) -> dict[str, Any]:
    """The arguments of `step` that only some schedulers take: a generator, and DDIM's eta."""
    known = inspect.signature(scheduler.step).parameters
    extra = {"eta": 0.0, "generator": generator}
    return {name: value for name, value in extra.items() if name in known}
