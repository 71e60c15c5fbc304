"""Stable Audio Open as an audio model: how its text, its latents and its time steps become a prediction.

Source: diffusers 0.42.1, StableAudioPipeline, for what the parts are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.audio_diffusion.oobleck import OobleckCodec, Run
from atelier_engines.audio_diffusion.sampling import Conditioning, ModelInput, NoiseSchedule
from atelier_engines.audio_diffusion.t5_text import T5TextEncoder
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.model_cache import Lease
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.stable_audio.model_folder import SolverConfig
from atelier_engines.stable_audio.solver import as_scheduler, create_solver
from atelier_engines.task import AudioTask


@dataclass(frozen=True, slots=True, kw_only=True)
class StableAudioModel:
    """See AudioModel. Its latents are (rows, width, latents), and always as many as the longest clip has."""

    info: AudioModelInfo
    """See AudioModel.info."""
    components: EngineComponents
    """See AudioModel.components."""
    text: T5TextEncoder
    """Encodes prompts."""
    projection: Lease[TorchModule[StableAudioProjectionModel]]
    """Projects texts and durations."""
    denoiser: Run
    """Runs the denoiser."""
    decoder: OobleckCodec
    """Makes samples of latents, and latents of samples."""
    solver: SolverConfig
    """The noise schedule."""
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
        return 2

    def encode(self, task: AudioTask, *, guided: bool) -> Conditioning:
        """See AudioModel.encode. Without a negative prompt the unconditional row is zero."""
        negative = task.negative_prompt if guided and task.negative_prompt else None
        texts = self.text.encode(task.prompt, negative, pad_to_max=True)
        end = torch.full((len(texts.states),), task.duration_seconds, device=self.components.device)
        module, states = self.projection.resident.module, texts.states.float()
        made = self.projection.run(
            lambda: module(
                text_hidden_states=states, start_seconds=torch.zeros_like(end), end_seconds=end
            )
        )
        start, stop = made.seconds_start_hidden_states, made.seconds_end_hidden_states
        known = made.text_hidden_states * texts.mask.unsqueeze(-1)
        tokens, whole = torch.cat([known, start, stop], dim=1), torch.cat([start, stop], dim=2)
        if guided and negative is None:
            tokens, whole = torch.cat([torch.zeros_like(tokens), tokens]), torch.cat([whole, whole])
        return Conditioning(
            rows={
                "encoder_hidden_states": tokens.to(self.dtype),
                "global_hidden_states": whole.to(self.dtype),
            }
        )

    def condition_on(
        self, conditioning: Conditioning, parameters: torch.Tensor, count: int
    ) -> None:
        """See AudioModel.condition_on. It has no such input."""
        del conditioning, parameters, count

    def schedule(self, steps: int) -> NoiseSchedule:
        """See AudioModel.schedule."""
        solver = create_solver(self.solver)
        solver.set_timesteps(steps, device=self.components.device)
        return NoiseSchedule(
            scheduler=as_scheduler(solver),
            noise=(float(solver.init_noise_sigma), *solver.sigmas[1:].tolist()),
            signal=(1.0,) * len(solver.sigmas),
            scale_input=solver.scale_model_input,
        )

    def encode_audio(self, wave: torch.Tensor) -> torch.Tensor:
        """See AudioModel.encode_audio."""
        return self.decoder.encode(wave)

    def draw_latents(self, parameters: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See AudioModel.draw_latents. As diffusers' pipeline: from the distribution."""
        drawn: torch.Tensor = OobleckDiagonalGaussianDistribution(parameters).sample(generator)
        return drawn

    def count_latents(self, task: AudioTask) -> int:
        """See AudioModel.count_latents. As many as the longest clip has: so it was trained."""
        del task
        return self.codec.max_latents

    def latent_shape(self, count: int) -> tuple[int, ...]:
        """See AudioModel.latent_shape."""
        return (1, self.latent_width, count)

    def denoise(self, inputs: ModelInput, conditioning: Conditioning) -> torch.Tensor:
        """See AudioModel.denoise."""
        latents = inputs.latents.to(self.dtype)
        given = {"latents": latents, "timesteps": inputs.timesteps, **conditioning.rows}
        return self.denoiser(given).float()

    def decode(self, latents: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """See AudioModel.decode."""
        return self.decoder.decode(latents[:, :, start:stop])
