"""Components run by torch, eagerly or compiled, as diffusers and transformers define them.

Modules are in evaluation mode and without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from atelier_engines.diffusion.runtimes.base import Conditioning, Residuals, TextEncoderOutput

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

ResultT = TypeVar("ResultT")


class Runner(Protocol):
    """Has a module on its device while it works; see Lease.run."""

    def __call__(self, work: Callable[[], ResultT], /) -> ResultT:
        """What `work()` returns."""


def run_directly(work: Callable[[], ResultT], /) -> ResultT:
    """What `work()` returns, of a module that is always on its device."""
    return work()


class TorchTextEncoder:
    """See TextEncoder."""

    def __init__(
        self,
        module: CLIPTextModel | CLIPTextModelWithProjection,
        device: torch.device,
        run: Runner = run_directly,
    ) -> None:
        """Encode with a module that runs on `device`."""
        self.module = module
        self._device = device
        self._run = run

    @property
    def lora_module(self) -> torch.nn.Module:
        """See TextEncoder.lora_module."""
        return self.module

    def encode(self, token_ids: torch.Tensor, *, layer: int | None) -> TextEncoderOutput:
        """See TextEncoder.encode."""
        on_device = token_ids.to(self._device)
        output = self._run(lambda: self.module(on_device, output_hidden_states=True))
        hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
        return TextEncoderOutput(
            prompt_embeds=hidden.to(self.module.dtype),
            pooled_prompt_embeds=getattr(output, "text_embeds", None),
        )


class TorchDenoiser:
    """See Denoiser."""

    def __init__(self, module: UNet2DConditionModel, run: Runner = run_directly) -> None:
        """Denoise with a module."""
        self.module = module
        self._run = run

    @property
    def lora_module(self) -> torch.nn.Module:
        """See Denoiser.lora_module."""
        module: torch.nn.Module = self.module
        return module

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """See Denoiser.predict."""

        def forward() -> torch.Tensor:
            prediction: torch.Tensor = self.module(
                latents,
                timesteps,
                encoder_hidden_states=conditioning.prompt_embeds,
                down_block_additional_residuals=None if residuals is None else residuals.down,
                mid_block_additional_residual=None if residuals is None else residuals.mid,
                added_cond_kwargs=_added_conditions(conditioning),
                return_dict=False,
            )[0]
            return prediction

        return self._run(forward)


class TorchControlNet:
    """See ControlNet."""

    def __init__(self, module: ControlNetModel, run: Runner = run_directly) -> None:
        """Compute residuals with a module."""
        self.module = module
        self._run = run

    def compute_residuals(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        *,
        maps: torch.Tensor,
        scales: Sequence[float],
    ) -> Residuals:
        """See ControlNet.compute_residuals."""
        channels = self.module.config["in_channels"]
        down, mid = self._run(
            lambda: self.module(
                latents[:, :channels],
                timesteps,
                encoder_hidden_states=conditioning.prompt_embeds,
                controlnet_cond=maps,
                conditioning_scale=_conditioning_scale(scales, latents.device),
                added_cond_kwargs=_added_conditions(conditioning),
                return_dict=False,
            ),
        )
        dtype = latents.dtype
        return Residuals(down=tuple(part.to(dtype) for part in down), mid=mid.to(dtype))


class TorchAutoencoder:
    """See Autoencoder."""

    def __init__(
        self, module: AutoencoderKL, device: torch.device, run: Runner = run_directly
    ) -> None:
        """Encode and decode with a module that runs on `device`."""
        self.module = module
        self._device = device
        self._run = run

    def encode(
        self, image: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """See Autoencoder.encode."""
        on_device = image.to(device=self._device, dtype=self.module.dtype)

        def forward() -> DiagonalGaussianDistribution:
            with _tiling(self.module, tiled=tiled):
                return self.module.encode(on_device, return_dict=False)[0]

        sample: torch.Tensor = self._run(forward).sample(generator)
        return sample

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """See Autoencoder.decode."""
        converted = latents.to(self.module.dtype)

        def forward() -> torch.Tensor:
            with _tiling(self.module, tiled=tiled):
                image: torch.Tensor = self.module.decode(converted, return_dict=False)[0]
                return image

        return self._run(forward)


@contextmanager
def _tiling(vae: AutoencoderKL, *, tiled: bool) -> Iterator[None]:
    """Set how the autoencoder works for one call: others who share it may want it otherwise."""
    vae.use_tiling = tiled
    try:
        yield
    finally:
        vae.use_tiling = False


def _added_conditions(conditioning: Conditioning) -> dict[str, torch.Tensor]:
    """What some families condition the denoiser on beside the text, as diffusers names it."""
    added = {
        "text_embeds": conditioning.pooled_prompt_embeds,
        "time_ids": conditioning.time_ids,
    }
    return {name: value for name, value in added.items() if value is not None}


def _conditioning_scale(scales: Sequence[float], device: torch.device) -> float | torch.Tensor:
    """One number where all rows have the same, else (rows, 1, 1, 1).

    A tensor of float32, because a product with a plain number is computed in float32 too before it
    is rounded to float16.
    """
    if len(set(scales)) == 1:
        return scales[0]
    return torch.tensor(scales, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
