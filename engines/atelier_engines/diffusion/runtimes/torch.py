"""Networks run by torch, eagerly, as diffusers and transformers define them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from atelier_engines.diffusion.runtimes.base import Conditioning, TextStates

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
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
    """Of the denoiser and the text encoders."""

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

    def denoise(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """See Runtime.denoise."""
        added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
        prediction: torch.Tensor = self.unet(
            latents,
            timesteps,
            encoder_hidden_states=conditioning.hidden,
            added_cond_kwargs={name: value for name, value in added.items() if value is not None},
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
