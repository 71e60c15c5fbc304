"""Writes a Stable Audio Open that is small and random, and makes audio with diffusers' own pipeline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioPipeline
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

from atelier_engines.local.random_numbers import make_generator
from atelier_engines.stable_audio.config import StableAudioConfig
from atelier_engines.stable_audio.model_folder import SolverConfig
from atelier_engines.stable_audio.solver import create_solver
from atelier_engines.task import AudioTask
from tests.engines.audio_diffusion import tiny_t5
from tests.engines.audio_diffusion.tiny_tangoflux import begin, cut

LATENTS = 51
RATE = 44100
_LATENT_WIDTH = 8
_SOLVER = {
    "_class_name": "CosineDPMSolverMultistepScheduler",
    "sigma_min": 0.3,
    "sigma_max": 500,
    "sigma_data": 1.0,
    "sigma_schedule": "exponential",
    "solver_order": 2,
    "prediction_type": "v_prediction",
    "solver_type": "midpoint",
}
"""As published."""


@dataclass(frozen=True, kw_only=True)
class TinyStableAudio:
    """The directory, and the same parts in diffusers' pipeline."""

    folder: Path
    pipeline: StableAudioPipeline

    def config(self, **settings: object) -> StableAudioConfig:
        """Settings of an engine that runs it."""
        return StableAudioConfig.model_validate(
            {"model": str(self.folder), "device": "cpu", "accept_license": True, **settings}
        )

    @torch.no_grad()
    def compose_from_audio(
        self, task: AudioTask
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The clip that diffusers' pipeline makes of the task's initial audio, of strength 1; (samples, channels)."""
        assert task.init_audio is not None
        latents = self.pipeline(
            task.prompt,
            audio_end_in_s=task.duration_seconds,
            num_inference_steps=task.steps,
            guidance_scale=task.guidance,
            generator=make_generator(task.seed),
            initial_audio_waveforms=torch.from_numpy(task.init_audio.array.T.copy())[None],
            initial_audio_sampling_rate=torch.tensor(RATE),
            output_type="latent",
        ).audios
        return self._decode(latents, task)

    @torch.no_grad()
    def compose(self, task: AudioTask) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The task's clip by diffusers' pipeline, all latents decoded, then cut; (samples, channels)."""
        latents = self.pipeline(
            task.prompt,
            audio_end_in_s=task.duration_seconds,
            num_inference_steps=task.steps,
            guidance_scale=task.guidance,
            negative_prompt=task.negative_prompt or None,
            generator=make_generator(task.seed),
            output_type="latent",
        ).audios
        return self._decode(latents, task)

    @torch.no_grad()
    def begin(self, task: AudioTask, noise_level: float) -> torch.Tensor:
        """Latents of the task's initial audio, all encoded at once, with noise of that level."""
        assert task.init_audio is not None
        generator = make_generator(task.seed)
        noise = torch.randn(1, _LATENT_WIDTH, LATENTS, generator=generator)
        wave = torch.zeros(1, 2, LATENTS * 2048)
        wave[0, :, : len(task.init_audio.array)] = torch.from_numpy(task.init_audio.array.T)
        encoded: torch.Tensor = self.pipeline.vae.encode(wave).latent_dist.sample(generator)
        return encoded + noise_level * noise

    @torch.no_grad()
    def continue_audio(self, task: AudioTask) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The clip by diffusers' pipeline, in whose latents those of the task's audio are put before each step."""
        assert task.init_audio is not None
        assert task.steps is not None
        array, count = task.init_audio.array, len(task.init_audio.array) // 2048
        generator = make_generator(task.seed)
        noise = torch.randn(1, _LATENT_WIDTH, LATENTS, generator=generator)
        wave = torch.zeros(1, 2, LATENTS * 2048)
        wave[0, :, : 2 * len(array)] = torch.from_numpy(
            np.concatenate([array, array[::-1]]).T.copy()
        )
        # drawn for the latents of the audio alone
        encoded = self.pipeline.vae.encode(wave).latent_dist
        spread = torch.randn(1, _LATENT_WIDTH, count, generator=generator)
        given = encoded.mean[:, :, :count] + encoded.std[:, :, :count] * spread
        scheduler = self.pipeline.scheduler
        scheduler.set_timesteps(task.steps)
        first = noise.clone()
        first[:, :, :count] += given / scheduler.init_noise_sigma

        def put(step: int, _time: torch.Tensor, latents: torch.Tensor) -> None:
            latents[:, :, :count] = given + scheduler.sigmas[step + 1] * noise[:, :, :count]

        latents = self.pipeline(
            task.prompt,
            audio_end_in_s=task.duration_seconds,
            num_inference_steps=task.steps,
            guidance_scale=task.guidance,
            generator=generator,
            latents=first,
            callback=put,
            callback_steps=1,
            output_type="latent",
        ).audios
        wave = begin(self.pipeline.vae.decode(latents).sample[0], array, count * 2048)
        return cut(wave, round(task.duration_seconds * RATE))

    def _decode(
        self, latents: torch.Tensor, task: AudioTask
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        wave = self.pipeline.vae.decode(latents).sample[0]
        wave = wave[:, : round(task.duration_seconds * RATE)]
        wave = wave / max(1.0, float(wave.abs().max()))
        return cast("np.ndarray[tuple[int, int], np.dtype[np.float32]]", wave.T.numpy())


def write(folder: Path) -> TinyStableAudio:
    """The model, the same every time."""
    torch.manual_seed(6)
    width = tiny_t5.WIDTH
    parts = {
        "vae": AutoencoderOobleck(
            encoder_hidden_size=2 * _LATENT_WIDTH,
            channel_multiples=[1, 1, 1, 1, 1],
            decoder_channels=4,
            decoder_input_channels=_LATENT_WIDTH,
        ),
        "text_encoder": tiny_t5.encoder(7),
        "tokenizer": tiny_t5.tokenizer(16),
        "projection_model": StableAudioProjectionModel(width, width, 0, 4),
        "transformer": StableAudioDiTModel(
            sample_size=LATENTS,
            in_channels=_LATENT_WIDTH,
            out_channels=_LATENT_WIDTH,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            num_key_value_attention_heads=1,
            cross_attention_dim=width,
            cross_attention_input_dim=width,
            global_states_input_dim=2 * width,
            time_proj_dim=16,
        ),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(_SOLVER))
    pipeline = StableAudioPipeline(
        **parts, scheduler=create_solver(SolverConfig.model_validate(_SOLVER))
    )
    pipeline.set_progress_bar_config(disable=True)
    return TinyStableAudio(folder=folder, pipeline=pipeline)
