"""Stable Audio 3 as an audio model: how its text, its latents and its time steps become a prediction.

Source: diffusers 0.42.1, StableAudio3Pipeline and StableAudio3InpaintPipeline, for what the parts are given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from diffusers.models.transformers.transformer_stable_audio3 import StableAudio3DiTModel
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)

from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.audio_diffusion.sampling import Conditioning, ModelInput, NoiseSchedule
from atelier_engines.audio_diffusion.t5_text import T5TextEncoder
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.model_cache import Lease
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.stable_audio_3.model_folder import SchedulerConfig
from atelier_engines.stable_audio_3.same import SameCodec
from atelier_engines.task import AudioTask

_LOGSNR_MIN, _LOGSNR_MAX = -6.2, 2.0
"""Logarithm of signal to noise, in power, before the first step and after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StableAudio3Model:
    """See AudioModel. Its latents are (rows, width, latents), as many as the duration needs."""

    info: AudioModelInfo
    """See AudioModel.info."""
    components: EngineComponents
    """See AudioModel.components."""
    text: T5TextEncoder
    """Encodes prompts."""
    duration: Lease[TorchModule[StableAudio3DurationEmbedder]]
    """Embeds durations."""
    denoiser: Lease[TorchModule[StableAudio3DiTModel]]
    """Predicts velocities."""
    autoencoder: SameCodec
    """Makes samples of latents, and latents of samples."""
    scheduler: SchedulerConfig
    """Settings of the scheduler."""
    dtype: torch.dtype
    """The type that the denoiser computes in."""

    @property
    def codec(self) -> LatentCodec:
        """See AudioModel.codec."""
        return self.autoencoder.codec

    @property
    def latent_axis(self) -> int:
        """See AudioModel.latent_axis."""
        return 2

    def encode(self, task: AudioTask, *, guided: bool) -> Conditioning:
        """See AudioModel.encode. Without a negative prompt the unconditional row is that of an empty text."""
        negative = task.negative_prompt if guided else None
        texts = self.text.encode(task.prompt, negative, pad_to_max=True)
        seconds = torch.full(
            (len(texts.states),), task.duration_seconds, device=self.components.device
        )
        module = self.duration.resident.module
        embedded = self.duration.run(lambda: module(seconds)).to(self.dtype)
        token = embedded.unsqueeze(1)
        return Conditioning(
            rows={
                "encoder_hidden_states": torch.cat([texts.states.to(self.dtype), token], dim=1),
                "encoder_attention_mask": torch.nn.functional.pad(texts.mask, (0, 1), value=True),
                "global_hidden_states": embedded,
            }
        )

    def condition_on(
        self, conditioning: Conditioning, parameters: torch.Tensor, count: int
    ) -> Conditioning:
        """See AudioModel.condition_on. A mask, and the latents that it keeps."""
        given = parameters.shape[2]
        kept = torch.cat([torch.ones_like(parameters[:, :1]), parameters], dim=1)
        padded = torch.nn.functional.pad(kept, (0, count - given)).to(self.dtype)
        rows = len(conditioning.rows["global_hidden_states"])
        told = {"local_add_cond": padded.repeat(rows, 1, 1)}
        return replace(conditioning, rows={**conditioning.rows, **told})

    def schedule(self, steps: int) -> NoiseSchedule:
        """See AudioModel.schedule. Evenly spaced in the logarithm of signal to noise, but for the first noise of 1."""
        config = self.scheduler
        scheduler = FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=config.num_train_timesteps,
            stochastic_sampling=config.stochastic_sampling,
        )
        share = torch.linspace(1.0, 0.0, steps + 1)
        sigmas = torch.sigmoid(share * (_LOGSNR_MAX - _LOGSNR_MIN) - _LOGSNR_MAX)
        sigmas[0] = 1.0
        scheduler.set_timesteps(sigmas=sigmas[:-1].tolist(), device=self.components.device)
        noise = tuple(scheduler.sigmas.tolist())
        return NoiseSchedule(
            scheduler=scheduler, noise=noise, signal=tuple(1.0 - level for level in noise)
        )

    def encode_audio(self, wave: torch.Tensor) -> torch.Tensor:
        """See AudioModel.encode_audio. The latents themselves."""
        return self.autoencoder.encode(wave)

    def draw_latents(self, parameters: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See AudioModel.draw_latents. Nothing is drawn."""
        del generator
        return parameters

    def count_latents(self, task: AudioTask) -> int:
        """See AudioModel.count_latents."""
        return self.codec.count_latents(round(task.duration_seconds * self.info.sample_rate))

    def latent_shape(self, count: int) -> tuple[int, ...]:
        """See AudioModel.latent_shape."""
        return (1, self.autoencoder.latent_width, count)

    def denoise(self, inputs: ModelInput, conditioning: Conditioning) -> torch.Tensor:
        """See AudioModel.denoise."""
        module = self.denoiser.resident.module
        made: torch.Tensor = self.denoiser.run(
            lambda: module(
                inputs.latents.to(self.dtype),
                inputs.timesteps,
                **conditioning.rows,
                return_dict=False,
            )[0]
        )
        return made.float()

    def decode(self, latents: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """See AudioModel.decode."""
        return self.autoencoder.decode(latents[:, :, start:stop])
