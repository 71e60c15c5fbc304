"""TangoFlux as an audio model: how its text, its latents and its time steps become a prediction.

Source: github.com/declare-lab/TangoFlux, tangoflux/model.py, inference_flow (2026-01), for what the parts are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)

from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.audio_diffusion.oobleck import OobleckCodec, Run
from atelier_engines.audio_diffusion.sampling import Conditioning, ModelInput, NoiseSchedule
from atelier_engines.audio_diffusion.t5_text import T5TextEncoder
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.model_cache import Lease
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.tangoflux.denoiser_graph import TRAIN_TIMESTEPS
from atelier_engines.tangoflux.network import TangoFluxConditioner
from atelier_engines.task import AudioTask


@dataclass(frozen=True, slots=True, kw_only=True)
class TangoFluxModel:
    """See AudioModel. Its latents are (rows, latents, width), and always as many as the longest clip has."""

    info: AudioModelInfo
    """See AudioModel.info."""
    components: EngineComponents
    """See AudioModel.components."""
    text: T5TextEncoder
    """Encodes prompts."""
    conditioner: Lease[TorchModule[TangoFluxConditioner]]
    """What is between text encoder and denoiser."""
    denoiser: Run
    """Runs the denoiser."""
    decoder: OobleckCodec
    """Makes samples of latents, and latents of samples."""
    dtype: torch.dtype
    """The type that the denoiser computes in."""
    latent_width: int
    """Numbers in a latent."""

    @property
    def codec(self) -> LatentCodec:
        """See AudioModel.codec."""
        return self.decoder.codec

    @property
    def latent_axis(self) -> int:
        """See AudioModel.latent_axis."""
        return 1

    def encode(self, task: AudioTask, *, guided: bool) -> Conditioning:
        """See AudioModel.encode."""
        negative = task.negative_prompt if guided else None
        texts = self.text.encode(task.prompt, negative, pad_to_max=False)
        rows = len(texts.states)
        seconds = torch.full((rows,), task.duration_seconds, device=self.components.device)
        module = self.conditioner.resident.module
        states = texts.states.float()
        pooled, tokens = self.conditioner.run(lambda: module(states, texts.mask, seconds))
        return Conditioning(
            rows={
                "pooled_projections": pooled.to(self.dtype),
                "encoder_hidden_states": tokens.to(self.dtype),
            }
        )

    def condition_on(
        self, conditioning: Conditioning, parameters: torch.Tensor, count: int
    ) -> None:
        """See AudioModel.condition_on. It has no such input."""
        del conditioning, parameters, count

    def schedule(self, steps: int) -> NoiseSchedule:
        """See AudioModel.schedule. With another shift than 1 the given sigmas would be shifted again."""
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_TIMESTEPS, shift=1.0)
        sigmas = np.linspace(1.0, 1 / steps, steps).tolist()
        scheduler.set_timesteps(sigmas=sigmas, device=self.components.device)
        noise = tuple(scheduler.sigmas.tolist())
        return NoiseSchedule(
            scheduler=scheduler, noise=noise, signal=tuple(1.0 - level for level in noise)
        )

    def encode_audio(self, wave: torch.Tensor) -> torch.Tensor:
        """See AudioModel.encode_audio."""
        return self.decoder.encode(wave)

    def draw_latents(self, parameters: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See AudioModel.draw_latents. The mode, which it was trained on, so nothing is drawn."""
        del generator
        mode: torch.Tensor = OobleckDiagonalGaussianDistribution(parameters).mode()
        return mode.transpose(1, 2)

    def count_latents(self, task: AudioTask) -> int:
        """See AudioModel.count_latents. As many as the longest clip has: so it was trained."""
        del task
        return self.codec.max_latents

    def latent_shape(self, count: int) -> tuple[int, ...]:
        """See AudioModel.latent_shape."""
        return (1, count, self.latent_width)

    def denoise(self, inputs: ModelInput, conditioning: Conditioning) -> torch.Tensor:
        """See AudioModel.denoise."""
        latents = inputs.latents.to(self.dtype)
        given = {"latents": latents, "timesteps": inputs.timesteps, **conditioning.rows}
        return self.denoiser(given).float()

    def decode(self, latents: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """See AudioModel.decode."""
        return self.decoder.decode(latents[:, start:stop].transpose(1, 2))
