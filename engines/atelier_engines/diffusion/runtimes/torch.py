"""Networks run by torch, eagerly, as diffusers and transformers define them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch

from atelier_engines.diffusion.runtimes.base import Conditioning, Residuals, TextStates

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from atelier_engines.diffusion.memory.holdings import Holdings

    TextEncoder = CLIPTextModel | CLIPTextModelWithProjection

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRuntime:
    """See Runtime. The modules are in evaluation mode and without gradients."""

    text_encoders: tuple[TextEncoder, ...]
    """In the family's order."""
    unet: UNet2DConditionModel
    """The denoiser; its dtype is that of latents and conditioning."""
    vae: AutoencoderKL
    """May compute in another dtype than the denoiser."""
    device: torch.device
    """Where all modules run."""
    dtype: torch.dtype
    """Of the denoiser, the text encoders and the ControlNets."""
    controlnets: Mapping[str, ControlNetModel] = field(default_factory=dict)
    """By name."""
    holdings: Holdings | None = None
    """See to it that a network is on the device when it runs; None if all are, and nobody else's."""

    def encode_text(
        self, encoder: int, token_ids: torch.Tensor, *, layer: int | None
    ) -> TextStates:
        """See Runtime.encode_text."""
        network = self.text_encoders[encoder]
        seen = token_ids.to(self.device)
        output = self._run(network, lambda: network(seen, output_hidden_states=True))
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
        down, mid = self._run(
            model,
            lambda: model(
                latents[:, : model.config["in_channels"]],
                timesteps,
                encoder_hidden_states=conditioning.hidden,
                controlnet_cond=maps,
                conditioning_scale=_scale(scales, latents.device),
                added_cond_kwargs=_added(conditioning),
                return_dict=False,
            ),
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

        def run() -> torch.Tensor:
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

        return self._run(self.unet, run)

    def encode_image(
        self, picture: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """See Runtime.encode_image."""
        seen = picture.to(device=self.device, dtype=self.vae.dtype)

        def run() -> DiagonalGaussianDistribution:
            with _tiles(self.vae, tiled=tiled):
                return self.vae.encode(seen, return_dict=False)[0]

        drawn: torch.Tensor = self._run(self.vae, run).sample(generator)
        return drawn

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """See Runtime.decode."""
        seen = latents.to(self.vae.dtype)

        def run() -> torch.Tensor:
            with _tiles(self.vae, tiled=tiled):
                picture: torch.Tensor = self.vae.decode(seen, return_dict=False)[0]
                return picture

        return self._run(self.vae, run)

    def synchronize(self) -> None:
        """See Runtime.synchronize."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _run(self, network: torch.nn.Module, work: Callable[[], ResultT]) -> ResultT:
        return work() if self.holdings is None else self.holdings.run(network, work)


@contextmanager
def _tiles(vae: AutoencoderKL, *, tiled: bool) -> Iterator[None]:
    """Set how the autoencoder works for one call: others who share it may want it otherwise."""
    vae.use_tiling = tiled
    try:
        yield
    finally:
        vae.use_tiling = False


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
