"""Networks run by torch, eagerly, as diffusers and transformers define them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from atelier_engines.diffusion.runtimes.base import Conditioning, Residuals, TextStates

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    TextEncoder = CLIPTextModel | CLIPTextModelWithProjection


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRuntime:
    """See Runtime. The modules are on `device`, in evaluation mode and without gradients."""

    text_encoders: tuple[TextEncoder, ...]
    """In the family's order."""
    unet: UNet2DConditionModel
    """The denoiser; its dtype is that of latents and conditioning."""
    vae: AutoencoderKL
    """May compute in another dtype than the denoiser."""
    device: torch.device
    """Where all modules are."""
    dtype: torch.dtype
    """Of the denoiser, the text encoders and the ControlNets."""
    controlnets: Mapping[str, ControlNetModel] = field(default_factory=dict)
    """By name."""

    def encode_text(
        self, encoder: int, token_ids: torch.Tensor, *, layer: int | None
    ) -> TextStates:
        """See Runtime.encode_text."""
        output = self.text_encoders[encoder](token_ids.to(self.device), output_hidden_states=True)
        hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
        return TextStates(
            hidden=hidden.to(self.dtype),
            pooled=getattr(output, "text_embeds", None),
        )

    def control(
        self,
        network: str,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        *,
        maps: torch.Tensor,
        scales: Sequence[float],
    ) -> Residuals:
        """See Runtime.control. A denoiser that inpaints has channels that ControlNets do not see."""
        model = self.controlnets[network]
        down, mid = model(
            latents[:, : model.config["in_channels"]],
            timesteps,
            encoder_hidden_states=conditioning.hidden,
            controlnet_cond=maps,
            conditioning_scale=_scale(scales, latents.device),
            added_cond_kwargs=_added(conditioning),
            return_dict=False,
        )
        dtype = latents.dtype
        return Residuals(down=tuple(part.to(dtype) for part in down), mid=mid.to(dtype))

    def denoise(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """See Runtime.denoise."""
        prediction: torch.Tensor = self.unet(
            latents,
            timesteps,
            encoder_hidden_states=conditioning.hidden,
            down_block_additional_residuals=None if residuals is None else residuals.down,
            mid_block_additional_residual=None if residuals is None else residuals.mid,
            added_cond_kwargs=_added(conditioning),
            return_dict=False,
        )[0]
        return prediction

    def encode_image(self, picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See Runtime.encode_image."""
        seen = picture.to(device=self.device, dtype=self.vae.dtype)
        drawn: torch.Tensor = self.vae.encode(seen).latent_dist.sample(generator)
        return drawn

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Runtime.decode."""
        picture: torch.Tensor = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return picture

    def synchronize(self) -> None:
        """See Runtime.synchronize."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _added(conditioning: Conditioning) -> dict[str, torch.Tensor]:
    """What some families tell the denoiser beside the text, as diffusers names it."""
    added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
    return {name: value for name, value in added.items() if value is not None}


def _scale(scales: Sequence[float], device: torch.device) -> float | torch.Tensor:
    """One number where all rows have the same, else (rows, 1, 1, 1).

    A tensor of float32, because a product with a plain number is computed in float32 too before it
    is rounded to float16.
    """
    if len(set(scales)) == 1:
        return scales[0]
    return torch.tensor(scales, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
